//! `node`: this node, by its agent and its kernel.

mod checksystem;
mod diags;
mod figures;
mod status;

use ocicat_node::control::Client;

use crate::cli;
use crate::failure::Failure;

/// Does what the arguments say.
///
/// # Errors
/// [`Failure::Unavailable`] when the agent does not answer.
pub async fn run(global: &cli::Global, command: cli::Node) -> Result<(), Failure> {
    let client = Client::new(global.run.join("node.sock"));
    match command {
        cli::Node::Status { routes } => status::run(&client, routes, global.output.format()),
        cli::Node::Checksystem => checksystem::run(global).await,
        cli::Node::Config => figures::config(&client, global.output.format()),
        cli::Node::Counters { all } => figures::counters(&client, all, global.output.format()),
        cli::Node::Drain { off } => figures::drain(&client, !off, global.output.format()),
        cli::Node::Diags { file } => diags::run(global, &client, file),
    }
}

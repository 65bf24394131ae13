// features: 
//! A program that uses ocicat-policy as a stranger would.

use ocicat_policy::Graph;

fn main() {
    let mut graph = Graph::new("node1");
    println!("{} problems", graph.problems().count());
    let _ = &mut graph;
}

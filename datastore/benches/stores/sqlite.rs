use std::sync::Arc;
use std::time::Instant;

use ocicat_datastore::{Backend, Sqlite, Store};

use crate::{assign, give_back, make_pool, median, over, rate};

const ROUNDS: u32 = 7;
const COMMITS: u32 = 150;

/// Addresses in a second, each on the disk before it is answered, beside commits of one row in the same file.
pub(crate) async fn run() {
    let folder = tempfile::tempdir_in(".").expect("a folder on a disk");
    let path = folder.path().join("store.db");
    let sqlite = Arc::new(Sqlite::open(&path).expect("a store"));
    let backend = Arc::clone(&sqlite) as Arc<dyn Backend>;
    make_pool(&Store::new(Arc::clone(&backend)), "10.0.0.0/8").await;
    let raw = rusqlite::Connection::open(&path).expect("the file");
    raw.busy_timeout(std::time::Duration::from_secs(10))
        .expect("patience");
    raw.pragma_update(None, "synchronous", "full")
        .expect("to the disk");
    raw.execute_batch("CREATE TABLE bench (number INTEGER PRIMARY KEY, value TEXT)")
        .expect("a table");
    let ipam = over(&backend);
    let (mut bare, mut alone, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..COMMITS {
            raw.execute("INSERT INTO bench (value) VALUES ('one row')", [])
                .expect("a row");
        }
        bare.push(rate(COMMITS, begin));
        let before = sqlite.commits();
        let (single, batched) = assign(&ipam, round, COMMITS, 100).await;
        alone.push(single);
        together.push(batched);
        if round == 0 {
            println!(
                "sqlite: {} commits in the first round",
                sqlite.commits() - before
            );
        }
        give_back(&ipam).await;
    }
    let ratio = |rates: &[f64]| {
        let ratios = rates.iter().zip(&bare).map(|(rate, bare)| rate / bare);
        median(ratios.collect())
    };
    let (of_alone, of_together) = (ratio(&alone), ratio(&together));
    println!("sqlite: {:.0} commits of one row a second", median(bare));
    println!(
        "sqlite: {:.0} addresses a second one by one ({of_alone:.2} x, goal 0.45), {:.0} by the hundred ({of_together:.1} x, goal 8)",
        median(alone),
        median(together)
    );
}

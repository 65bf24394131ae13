// features: 
//! A program that uses ocicat-selectors as a stranger would.

use std::collections::BTreeMap;

use ocicat_selectors::Selector;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let selector: Selector = "app == 'web' && has(tier)".parse()?;
    let pod = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
    assert!(selector.matches(&pod));
    println!("{selector}");
    Ok(())
}

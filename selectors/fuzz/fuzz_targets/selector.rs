//! A selector: an error with a place in the text, or a selector whose canonical form reads as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_selectors::Selector;

fuzz_target!(|text: &str| {
    match text.parse::<Selector>() {
        Ok(selector) => {
            let canonical = selector.to_string();
            let again: Selector = canonical.parse().expect("a canonical form is a selector");
            assert_eq!(again, selector);
            assert_eq!(again.to_string(), canonical);
            let labels = [("a", "b"), ("app", "web")];
            assert_ne!(
                selector.matches(&labels[..]),
                (!selector.clone()).matches(&labels[..])
            );
            let _ = (selector.restrictions(), selector.unique_id());
        }
        Err(error) => {
            let span = error.span();
            assert!(
                span.start <= span.end && text.get(..span.start).is_some(),
                "{span:?}"
            );
            assert!(!error.render().is_empty());
        }
    }
});

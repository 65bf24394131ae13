use alloc::borrow::Borrow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::marker::PhantomData;

/// Anything that has labels: a map, Kubernetes' labels, a closure over something of your own.
///
/// A label is a key with one value. [`Selector::matches`](crate::Selector::matches) asks for the keys that it names
/// and for no others.
pub trait Labels {
    /// The value of the label `key`; `None` when there is no such label.
    fn get(&self, key: &str) -> Option<&str>;
}

impl<K: Borrow<str> + Ord, V: AsRef<str>> Labels for BTreeMap<K, V> {
    fn get(&self, key: &str) -> Option<&str> {
        Self::get(self, key).map(AsRef::as_ref)
    }
}

#[cfg(feature = "std")]
impl<K, V, S> Labels for std::collections::HashMap<K, V, S>
where
    K: Borrow<str> + Eq + core::hash::Hash,
    V: AsRef<str>,
    S: core::hash::BuildHasher,
{
    fn get(&self, key: &str) -> Option<&str> {
        Self::get(self, key).map(AsRef::as_ref)
    }
}

/// Pairs of key and value, searched from the front: the first of two equal keys counts.
impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(k, _)| k.as_ref() == key)
            .map(|(_, v)| v.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Labels for [(K, V); N] {
    fn get(&self, key: &str) -> Option<&str> {
        Labels::get(self.as_slice(), key)
    }
}

impl<T: Labels + ?Sized> Labels for &T {
    fn get(&self, key: &str) -> Option<&str> {
        (**self).get(key)
    }
}

impl<T: Labels + ?Sized> Labels for Box<T> {
    fn get(&self, key: &str) -> Option<&str> {
        (**self).get(key)
    }
}

impl<T: Labels + ?Sized> Labels for Arc<T> {
    fn get(&self, key: &str) -> Option<&str> {
        (**self).get(key)
    }
}

/// Labels that a closure answers for.
///
/// ```
/// use ocicat_selectors::{LabelFn, Selector};
///
/// let name = String::from("web-1");
/// let labels = LabelFn::new(|key| (key == "name").then_some(name.as_str()));
/// let selector: Selector = "name starts with 'web-'".parse()?;
/// assert!(selector.matches(&labels));
/// # Ok::<(), ocicat_selectors::ParseError>(())
/// ```
#[derive(Clone, Copy)]
pub struct LabelFn<'a, F> {
    answer: F,
    lifetime: PhantomData<&'a str>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> LabelFn<'a, F> {
    /// Labels whose values `answer` knows.
    pub const fn new(answer: F) -> Self {
        Self {
            answer,
            lifetime: PhantomData,
        }
    }
}

impl<F> core::fmt::Debug for LabelFn<'_, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LabelFn")
    }
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Labels for LabelFn<'a, F> {
    fn get(&self, key: &str) -> Option<&str> {
        (self.answer)(key)
    }
}

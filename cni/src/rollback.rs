use crate::CniError;

/// What has been done so far, and how each of it is undone: for an ADD that can fail half way.
///
/// [`scope`](Self::scope) runs the work. When it fails, the steps are undone in reverse order; every step is tried, and
/// the error of the work is returned with those of the undoing in its details. A panic undoes them too.
///
/// ```
/// use ocicat_cni::{CniError, Rollback};
///
/// let mut log = Vec::new();
/// let log = std::cell::RefCell::new(&mut log);
/// let outcome: Result<(), CniError> = Rollback::scope(|rollback| {
///     rollback.push("release the address", || {
///         log.borrow_mut().push("released");
///         Err(CniError::io("releasing", "the store is gone"))
///     });
///     rollback.push("remove the link", || Ok(log.borrow_mut().push("removed")));
///     Err(CniError::try_again("policy is late"))
/// });
/// let error = outcome.unwrap_err();
/// assert_eq!(error.to_string(), "policy is late: release the address: releasing: the store is gone");
/// assert_eq!(**log.borrow(), ["removed", "released"]);
/// ```
#[derive(Default)]
#[must_use = "dropped, it undoes every step"]
pub struct Rollback<'a> {
    steps: Vec<Step<'a>>,
}

struct Step<'a> {
    what: &'static str,
    undo: Box<dyn FnOnce() -> Result<(), CniError> + 'a>,
}

impl<'a> Rollback<'a> {
    /// Runs the work with a stack of its own; undoes what the work has pushed when it fails.
    ///
    /// # Errors
    /// The error of the work, with those of the undoing in its details.
    pub fn scope<T>(work: impl FnOnce(&mut Self) -> Result<T, CniError>) -> Result<T, CniError> {
        let mut rollback = Self::default();
        match work(&mut rollback) {
            Ok(value) => {
                rollback.steps.clear();
                Ok(value)
            }
            Err(error) => Err(rollback
                .undo_all()
                .into_iter()
                .fold(error, |error, (what, undo)| {
                    error.with_details(format!("{what}: {undo}"))
                })),
        }
    }

    /// Notes a step that has been done: what undoing it is called, and how it goes.
    pub fn push(&mut self, what: &'static str, undo: impl FnOnce() -> Result<(), CniError> + 'a) {
        self.steps.push(Step {
            what,
            undo: Box::new(undo),
        });
    }

    fn undo_all(&mut self) -> Vec<(&'static str, CniError)> {
        let mut errors = Vec::new();
        while let Some(step) = self.steps.pop() {
            if let Err(error) = (step.undo)() {
                errors.push((step.what, error));
            }
        }
        errors
    }
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        // Steps are left only when the work has panicked: there is nobody to tell about errors.
        drop(self.undo_all());
    }
}

impl std::fmt::Debug for Rollback<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|step| step.what))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn success_undoes_nothing_and_a_panic_undoes_everything() {
        let undone = RefCell::new(Vec::new());
        let note = |what| {
            let undone = &undone;
            move || {
                undone.borrow_mut().push(what);
                Ok(())
            }
        };
        let kept = Rollback::scope(|rollback| {
            rollback.push("a", note("a"));
            Ok(7)
        });
        assert_eq!(kept.unwrap(), 7);
        assert!(undone.borrow().is_empty());
        let panicking = std::panic::AssertUnwindSafe(|| {
            Rollback::scope(|rollback| -> Result<(), CniError> {
                rollback.push("a", note("a"));
                rollback.push("b", note("b"));
                std::panic::resume_unwind(Box::new(()))
            })
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(*undone.borrow(), ["b", "a"]);
    }
}

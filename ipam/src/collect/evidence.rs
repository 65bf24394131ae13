use std::net::IpAddr;

/// Whether an address lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Its attachment is there.
    Alive,
    /// Nobody can tell; it stays.
    Unknown,
    /// Its attachment is gone.
    Dead,
    /// The node for which it was taken is proven gone: deleted by whoever makes nodes, not merely silent.
    NodeGone,
}

/// What witnesses say about an address, to be believed in this order; `None` for a witness that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// Whether the node has a record of the attachment: container id, interface and network.
    pub attachment: Option<bool>,
    /// The addresses of the attachment by the pod's network-status annotation.
    pub network_status: Option<Vec<IpAddr>>,
    /// The addresses of the pod by its status; empty when the pod is gone. Says nothing where there is no Kubernetes.
    pub pod: Option<Vec<IpAddr>>,
    /// Whether the attachment is a further one of its pod, of which the pod's status knows nothing.
    pub secondary: bool,
}

impl Evidence {
    /// No witness.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the node's own records say.
    #[must_use]
    pub const fn attachment(mut self, is_there: bool) -> Self {
        self.attachment = Some(is_there);
        self
    }

    /// What the pod's network-status annotation says about the attachment's network.
    #[must_use]
    pub fn network_status(mut self, addresses: Vec<IpAddr>) -> Self {
        self.network_status = Some(addresses);
        self
    }

    /// What the pod's status says; no addresses when the pod is gone.
    #[must_use]
    pub fn pod(mut self, addresses: Vec<IpAddr>) -> Self {
        self.pod = Some(addresses);
        self
    }

    /// The attachment is not its pod's first.
    #[must_use]
    pub const fn secondary(mut self) -> Self {
        self.secondary = true;
        self
    }

    /// What follows for an address.
    #[must_use]
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        let lives = self
            .attachment
            .or_else(|| {
                self.network_status
                    .as_ref()
                    .map(|all| all.contains(&address))
            })
            .or_else(|| {
                self.pod
                    .as_ref()
                    .filter(|_| !self.secondary)
                    .map(|all| all.contains(&address))
            });
        match lives {
            None => Verdict::Unknown,
            Some(true) => Verdict::Alive,
            Some(false) => Verdict::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_are_believed_in_order() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let (here, elsewhere) = (vec![address], vec![IpAddr::from([10, 0, 0, 2])]);
        let cases = [
            (Evidence::new(), Verdict::Unknown),
            (Evidence::new().pod(here.clone()), Verdict::Alive),
            (Evidence::new().pod(elsewhere.clone()), Verdict::Dead),
            (Evidence::new().pod(Vec::new()), Verdict::Dead),
            (
                Evidence::new().pod(Vec::new()).secondary(),
                Verdict::Unknown,
            ),
            (
                Evidence::new().pod(Vec::new()).network_status(here.clone()),
                Verdict::Alive,
            ),
            (
                Evidence::new().pod(here.clone()).network_status(elsewhere),
                Verdict::Dead,
            ),
            (
                Evidence::new().attachment(true).pod(Vec::new()),
                Verdict::Alive,
            ),
            (
                Evidence::new().attachment(false).network_status(here),
                Verdict::Dead,
            ),
        ];
        for (evidence, verdict) in cases {
            assert_eq!(evidence.verdict(address), verdict, "{evidence:?}");
        }
    }
}

//! Links of ours that no state names any more.

use super::Links;
use crate::netlink::link::{KernelLink, Settings};
use crate::netlink::{Batch, address, link};
use crate::report::Object;
use crate::{KernelError, Refusal, State};

impl Links<'_> {
    /// Removes what is ours and not named.
    pub(in crate::linux) fn remove(&mut self, desired: &State) -> Result<(), KernelError> {
        let gone: Vec<KernelLink> = self
            .view
            .links()
            .filter(|link| !desired.links.contains_key(&link.name) && self.is_ours(link))
            .cloned()
            .collect();
        for link in gone {
            match self.remove_one(&link) {
                Err(error) if error.refusal == Refusal::Overrun => return Err(error),
                Err(error) => self.report.fail(Object::Link(link.name), error.into()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Whether we made it: it carries our mark. A VXLAN device of Calico's name is taken over without one.
    fn is_ours(&self, link: &KernelLink) -> bool {
        self.is_marked(link) || link.kind == "vxlan" && self.options.links.contains(&link.name)
    }

    pub(super) fn is_marked(&self, link: &KernelLink) -> bool {
        self.options.mark.is_some() && link.alias == self.options.mark
    }

    fn remove_one(&mut self, link: &KernelLink) -> Result<(), KernelError> {
        match self.socket.execute(link::delete(link.index), 0) {
            Ok(()) => self.report.changed += 1,
            Err(error) if error.refusal == Refusal::NoLink => {}
            Err(error) => return Err(error),
        }
        // The module's own device is asked to go, and stays without a word.
        if link.kind == "ipip" && self.socket.get(link::get_index(link.index)).is_ok() {
            return self.put_down(link);
        }
        self.view.remove_link(link.index);
        self.view.drop_routes_by(link.index);
        Ok(())
    }

    /// What cannot be removed is brought down, without addresses and without our mark.
    fn put_down(&mut self, link: &KernelLink) -> Result<(), KernelError> {
        if !self.view.addresses.contains_key(&link.index) {
            self.view.read_entries(self.socket, link.index)?;
        }
        let mut batch = Batch::new();
        for known in self.view.addresses.remove(&link.index).unwrap_or_default() {
            batch.push((), address::delete(link.index, known), 0);
        }
        let down = Settings {
            alias: Some(""),
            up: Some(false),
            ..Settings::default()
        };
        batch.push((), link::set_index(link.index, &down), 0);
        for ((), error) in self.socket.run(&mut batch)? {
            if error.refusal != Refusal::Missing {
                return Err(error);
            }
        }
        self.view.drop_routes_by(link.index);
        self.view.forget_entries(link.index);
        self.view.reread(self.socket, link.index)
    }
}

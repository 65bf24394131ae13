//! The end of the table.

use nix::errno::Errno;

use super::{Error, Table, kernel};
use crate::nft::messages;
use crate::nft::plan::Op;
use crate::nft::ruleset::Family;
use crate::nft::socket::Failure;

impl Table {
    /// Removes everything of ours from the kernel: policy ends, and nothing is masqueraded any more. None there is a
    /// success. The next [`apply`](Self::apply) makes it anew.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, as for a table that another program owns.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.invalidate();
        // Made first, so that there is one to delete.
        let both = |family| [Op::NewTable(family), Op::DelTable(family)];
        let ops: Vec<Op> = Family::BOTH.into_iter().flat_map(both).collect();
        let limit = self.socket.limit();
        let transactions = messages::transactions(&ops, limit, usize::MAX, self.socket.sequence());
        for transaction in transactions {
            let refused = |errno: Errno| Error::Refused {
                what: "the end of the tables".to_owned(),
                errno: kernel(errno),
            };
            match self.socket.commit(&transaction, None) {
                Ok(()) => {}
                Err(Failure::Socket(errno)) => return Err(refused(errno)),
                Err(Failure::Refused(all)) => {
                    let first = all.first().map_or(Errno::EIO, |refusal| refusal.errno);
                    return Err(refused(first));
                }
                Err(Failure::Outdated | Failure::Lost) => return Err(refused(Errno::EAGAIN)),
            }
        }
        Ok(())
    }
}

//! What was said to the kernel, word for word.

use super::Table;

impl Table {
    /// Keeps from now on what is sent, for [`recorded`](Self::recorded).
    pub fn record(&mut self) {
        self.socket.sent.get_or_insert_default();
    }

    /// The datagrams of transactions that were sent since [`record`](Self::record) or the last call, each with its
    /// begin and end (linux/netfilter/nfnetlink.h): for comparison with other encoders, and to send again.
    pub fn recorded(&mut self) -> Vec<Vec<u8>> {
        self.socket
            .sent
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

//! Features that policy needs: nf_tables and connection tracking.

use super::{Trial, words};
use crate::linux::conntrack;
use crate::nft::probe::{Part, part};

pub(super) static TRIALS: &[Trial] = &[
    Trial {
        name: "nf_tables",
        costs: "no policy: the agent does not start. modprobe nf_tables (CONFIG_NF_TABLES_INET)",
        run: |_| part(Part::Table),
    },
    Trial {
        name: "nf_tables: sets",
        costs: "no policy at all: selectors become sets. CONFIG_NF_TABLES",
        run: |_| part(Part::Sets),
    },
    Trial {
        name: "nf_tables: verdict maps",
        costs: "no policy at all: pods are found in such maps. CONFIG_NF_TABLES",
        run: |_| part(Part::Maps),
    },
    Trial {
        name: "nf_tables: concatenations",
        costs: "named ports and the check of pods' source addresses are refused. CONFIG_NF_TABLES",
        run: |_| part(Part::Concatenations),
    },
    Trial {
        name: "nf_tables: intervals",
        costs: "policies that name networks are refused. CONFIG_NF_TABLES",
        run: |_| part(Part::Intervals),
    },
    Trial {
        name: "nf_tables: ct",
        costs: "no policy at all: answers of open connections are let through by it. modprobe nft_ct",
        run: |_| part(Part::Connections),
    },
    Trial {
        name: "nf_tables: ct mark",
        costs: "open connections that a new policy denies cannot be cut. CONFIG_NF_CONNTRACK_MARK",
        run: |_| part(Part::ConnectionMarks),
    },
    Trial {
        name: "nf_tables: fib",
        costs: "the node's own packets to tunnels keep their address, so Services may not answer the node. modprobe nft_fib_inet",
        run: |_| part(Part::Fib),
    },
    Trial {
        name: "nf_tables: log",
        costs: "rules with action Log write nothing. modprobe nft_log nf_log_syslog",
        run: |_| part(Part::Log),
    },
    Trial {
        name: "nf_tables: limit",
        costs: "rules with action Log write nothing where their rate is limited. modprobe nft_limit",
        run: |_| part(Part::Limit),
    },
    Trial {
        name: "nf_tables: reject",
        costs: "what should be refused is dropped silently: clients wait. modprobe nft_reject_inet",
        run: |_| part(Part::Reject),
    },
    Trial {
        name: "nf_tables: notrack",
        costs: "the node's rules for VXLAN are refused: outer packets fill the table of connections. modprobe nft_ct",
        run: |_| part(Part::NoTrack),
    },
    Trial {
        name: "nf_tables: masquerade",
        costs: "pods' packets leave the cluster with pods' addresses (natOutgoing). modprobe nft_masq nft_chain_nat",
        run: |_| part(Part::Masquerade),
    },
    Trial {
        name: "nf_tables: snat",
        costs: "natOutgoingAddress is not served. modprobe nft_nat nft_chain_nat",
        run: |_| part(Part::SourceNat),
    },
    Trial {
        name: "nf_tables: arp",
        costs: "pods may name any address in ARP; their packets are checked all the same. CONFIG_NF_TABLES_ARP",
        run: |_| part(Part::Arp),
    },
    Trial {
        name: "conntrack over netlink",
        costs: "connections of an address that goes live on until they time out. modprobe nf_conntrack_netlink",
        run: |_| conntrack::readable().map_err(words),
    },
];

use super::Reader;
use crate::number::Family;

/// A capability of an OPEN message (RFC 5492).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// 1: routes of this family may be exchanged (RFC 4760). Families that are not ours are [`Capability::Unknown`].
    Multiprotocol(Family),
    /// 2: ROUTE-REFRESH is understood (RFC 2918).
    RouteRefresh,
    /// 5: routes of the first family may have next hops of the second one's (RFC 8950). Pairs of which one is not ours
    /// are left out.
    ExtendedNextHop(Vec<(Family, Family)>),
    /// 6: messages up to 65535 octets are understood (RFC 8654).
    ExtendedMessage,
    /// 9: the role of the speaker (RFC 9234).
    Role(u8),
    /// 64: graceful restart (RFC 4724, 8538).
    GracefulRestart(GracefulRestartCapability),
    /// 65: the speaker's AS number in four octets (RFC 6793).
    FourOctetAs(u32),
    /// 69: several paths per prefix (RFC 7911).
    AddPath(Vec<(Family, AddPathMode)>),
    /// 70: refreshes are marked with begin and end (RFC 7313).
    EnhancedRouteRefresh,
    /// Any other, or one of the above in a form that is not understood.
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The graceful restart capability (RFC 4724 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GracefulRestartCapability {
    /// The R bit: the speaker has restarted and waits for its peers' routes.
    pub restarting: bool,
    /// The N bit: a NOTIFICATION starts graceful restart too (RFC 8538).
    pub notification: bool,
    /// For how long a peer shall keep the speaker's routes, in seconds, 0..=4095.
    pub time: u16,
    /// The families covered, each with its F bit: forwarding went on during the last restart.
    pub families: Vec<(Family, bool)>,
}

/// What a speaker does with several paths per prefix (RFC 7911 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPathMode {
    /// It can receive them.
    Receive,
    /// It can send them.
    Send,
    /// Both.
    Both,
}

impl Capability {
    pub(crate) fn parse(code: u8, value: &[u8]) -> Self {
        Self::known(code, value).unwrap_or_else(|| Self::Unknown {
            code,
            value: value.to_vec(),
        })
    }

    fn known(code: u8, value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        Some(match (code, value.len()) {
            (1, 4) => {
                let afi = reader.u16()?;
                reader.u8()?;
                Self::Multiprotocol(Family::from_wire(afi, reader.u8()?)?)
            }
            (2, 0) => Self::RouteRefresh,
            (5, length) if length % 6 == 0 => {
                let mut pairs = Vec::new();
                while let Some([a, b, _, safi, c, d]) = reader.array() {
                    let routes = Family::from_wire(u16::from_be_bytes([a, b]), safi);
                    let hops = Family::from_wire(u16::from_be_bytes([c, d]), 1);
                    pairs.extend(routes.zip(hops));
                }
                Self::ExtendedNextHop(pairs)
            }
            (6, 0) => Self::ExtendedMessage,
            (9, 1) => Self::Role(reader.u8()?),
            (64, length) if length >= 2 && (length - 2) % 4 == 0 => {
                let head = reader.u16()?;
                let mut families = Vec::new();
                while let Some([a, b, safi, flags]) = reader.array() {
                    if let Some(family) = Family::from_wire(u16::from_be_bytes([a, b]), safi) {
                        families.push((family, flags & 0x80 != 0));
                    }
                }
                Self::GracefulRestart(GracefulRestartCapability {
                    restarting: head & 0x8000 != 0,
                    notification: head & 0x4000 != 0,
                    time: head & 0x0fff,
                    families,
                })
            }
            (65, 4) => Self::FourOctetAs(reader.u32()?),
            (69, length) if length % 4 == 0 => {
                let mut families = Vec::new();
                while let Some([a, b, safi, mode]) = reader.array() {
                    let family = Family::from_wire(u16::from_be_bytes([a, b]), safi);
                    let mode = match mode {
                        1 => AddPathMode::Receive,
                        2 => AddPathMode::Send,
                        3 => AddPathMode::Both,
                        // RFC 7911 section 4: any other value is ignored.
                        _ => continue,
                    };
                    families.extend(family.map(|family| (family, mode)));
                }
                Self::AddPath(families)
            }
            (70, 0) => Self::EnhancedRouteRefresh,
            _ => return None,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0, 0]);
        let code = match self {
            Self::Multiprotocol(family) => {
                out.extend_from_slice(&family.afi().to_be_bytes());
                out.extend_from_slice(&[0, family.safi()]);
                1
            }
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(pairs) => {
                for (routes, hops) in pairs {
                    out.extend_from_slice(&routes.afi().to_be_bytes());
                    out.extend_from_slice(&[0, routes.safi()]);
                    out.extend_from_slice(&hops.afi().to_be_bytes());
                }
                5
            }
            Self::ExtendedMessage => 6,
            Self::Role(role) => {
                out.push(*role);
                9
            }
            Self::GracefulRestart(restart) => {
                let head = u16::from(restart.restarting) << 15
                    | u16::from(restart.notification) << 14
                    | restart.time.min(4095);
                out.extend_from_slice(&head.to_be_bytes());
                for (family, forwarding) in &restart.families {
                    out.extend_from_slice(&family.afi().to_be_bytes());
                    out.extend_from_slice(&[family.safi(), u8::from(*forwarding) << 7]);
                }
                64
            }
            Self::FourOctetAs(number) => {
                out.extend_from_slice(&number.to_be_bytes());
                65
            }
            Self::AddPath(families) => {
                for (family, mode) in families {
                    out.extend_from_slice(&family.afi().to_be_bytes());
                    let mode = match mode {
                        AddPathMode::Receive => 1,
                        AddPathMode::Send => 2,
                        AddPathMode::Both => 3,
                    };
                    out.extend_from_slice(&[family.safi(), mode]);
                }
                69
            }
            Self::EnhancedRouteRefresh => 70,
            Self::Unknown { code, value } => {
                out.extend_from_slice(&value[..value.len().min(255)]);
                *code
            }
        };
        out[begin] = code;
        out[begin + 1] = (out.len() - begin - 2) as u8;
    }
}

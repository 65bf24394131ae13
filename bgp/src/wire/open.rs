use std::net::Ipv4Addr;

use super::{Capability, Notification, OPEN, Reader, finish, start};
use crate::number::AsNumber;

/// An OPEN message (RFC 4271 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS number: that of the four-octet capability if there is one, else the two octets of the header.
    pub as_number: AsNumber,
    /// The hold time that the speaker proposes, in seconds; 0 means that it wants none.
    pub hold_time: u16,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The capabilities, in the order of the message.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Reads the body of an OPEN message and checks what can be checked without a configuration.
    ///
    /// # Errors
    /// The NOTIFICATION that RFC 4271 section 6.2 answers with.
    pub fn parse(body: &[u8]) -> Result<Self, Notification> {
        let short = || {
            Notification::new(1, 2)
                .data(((body.len() + super::HEADER) as u16).to_be_bytes().to_vec())
        };
        let mut reader = Reader::new(body);
        if reader.u8().ok_or_else(short)? != 4 {
            return Err(Notification::new(2, 1).data(4u16.to_be_bytes().to_vec()));
        }
        let two_octets = reader.u16().ok_or_else(short)?;
        let hold_time = reader.u16().ok_or_else(short)?;
        let router_id = Ipv4Addr::from(reader.u32().ok_or_else(short)?);
        let capabilities = parameters(&mut reader).ok_or_else(|| Notification::new(2, 0))??;
        let four_octets = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(number) => Some(*number),
            _ => None,
        });
        let as_number = AsNumber(four_octets.unwrap_or_else(|| u32::from(two_octets)));
        // RFC 7607 and RFC 6793 section 4.2.2: 0 never, AS_TRANS not as a number of its own.
        if as_number.0 == 0 || two_octets == 0 {
            return Err(Notification::new(2, 2));
        }
        // RFC 6286 section 2.1: any identifier but zero.
        if router_id.is_unspecified() {
            return Err(Notification::new(2, 3));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::new(2, 6));
        }
        Ok(Self {
            as_number,
            hold_time,
            router_id,
            capabilities,
        })
    }

    /// Appends the whole message, header included. More than 255 octets of capabilities go out in the extended form
    /// of RFC 9072.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = start(OPEN, out);
        out.push(4);
        out.extend_from_slice(&self.as_number.two_octets().to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.router_id.octets());
        let mut values = Vec::new();
        for capability in &self.capabilities {
            capability.encode(&mut values);
        }
        if values.is_empty() {
            out.push(0);
        } else if values.len() <= 253 {
            out.extend_from_slice(&[values.len() as u8 + 2, 2, values.len() as u8]);
        } else {
            let length = values.len() as u16;
            out.extend_from_slice(&[255, 255]);
            out.extend_from_slice(&(length + 3).to_be_bytes());
            out.push(2);
            out.extend_from_slice(&length.to_be_bytes());
        }
        out.extend_from_slice(&values);
        finish(begin, out);
    }
}

/// The optional parameters; the outer `None` means that a length does not fit.
fn parameters(reader: &mut Reader<'_>) -> Option<Result<Vec<Capability>, Notification>> {
    let mut length = usize::from(reader.u8()?);
    let mut extended = false;
    // RFC 9072 section 2: a first parameter of type 255 announces two-octet lengths.
    if length != 0 && reader.rest().first() == Some(&255) {
        reader.u8()?;
        length = usize::from(reader.u16()?);
        extended = true;
    }
    if reader.rest().len() != length {
        return None;
    }
    let mut capabilities = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8()?;
        let length = if extended {
            usize::from(reader.u16()?)
        } else {
            usize::from(reader.u8()?)
        };
        let mut value = Reader::new(reader.bytes(length)?);
        if kind != 2 {
            return Some(Err(Notification::new(2, 4)));
        }
        while !value.is_empty() {
            let code = value.u8()?;
            let length = usize::from(value.u8()?);
            capabilities.push(Capability::parse(code, value.bytes(length)?));
        }
    }
    Some(Ok(capabilities))
}

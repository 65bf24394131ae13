//! A list taken apart as its bytes come: what an API server has in memory it sends as one answer, whatever the limit, and
//! that answer is a gigabyte in a large cluster.

/// Finds the elements of the member `items` of a JSON object. Whatever is not well-formed is left to who decodes the
/// elements and the rest.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Everything that is no element.
    rest: Vec<u8>,
    element: Vec<u8>,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// Inside of `items`.
    in_items: bool,
}

/// The depth of the elements of `items`, from the inside.
const INSIDE: usize = 2;

impl Splitter {
    /// Takes bytes; each element that they complete is given to `take`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while let Some(first) = bytes.first() {
            if self.in_text {
                let length = self.text(bytes);
                self.keep(bytes.get(..length).unwrap_or(bytes));
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            let plain = bytes.iter().position(|byte| is_mark(*byte));
            match plain {
                Some(0) => {
                    self.mark(*first, &mut take);
                    bytes = bytes.get(1..).unwrap_or_default();
                }
                plain => {
                    let length = plain.unwrap_or(bytes.len());
                    self.keep(bytes.get(..length).unwrap_or(bytes));
                    bytes = bytes.get(length..).unwrap_or_default();
                }
            }
        }
    }

    /// The object without the elements of `items`.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// How many of the bytes belong to the text that they begin in.
    fn text(&mut self, bytes: &[u8]) -> usize {
        for (place, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_text = false;
                    return place + 1;
                }
                _ => {}
            }
        }
        bytes.len()
    }

    fn mark(&mut self, byte: u8, take: &mut impl FnMut(&[u8])) {
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => {
                if byte == b'[' && self.depth == 1 && is_items(&self.rest) {
                    self.rest.push(byte);
                    self.depth += 1;
                    self.in_items = true;
                    return;
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                if self.in_items && self.depth == INSIDE {
                    self.in_items = false;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            // Between elements.
            _ if self.in_items && self.depth == INSIDE => return,
            _ => {}
        }
        self.keep(&[byte]);
        if self.in_items && self.depth == INSIDE && matches!(byte, b'}' | b']') {
            take(&self.element);
            self.element.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let to = if self.in_items {
            &mut self.element
        } else {
            &mut self.rest
        };
        to.extend_from_slice(bytes);
    }
}

const fn is_mark(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',')
}

/// Whether what was read ends with the name of the member.
fn is_items(rest: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let end = |bytes: &[u8]| bytes.iter().rposition(|b| !blank(b)).map_or(0, |at| at + 1);
    let rest = rest.get(..end(rest)).unwrap_or_default();
    let Some(name) = rest.strip_suffix(b":") else {
        return false;
    };
    let name = name.get(..end(name)).unwrap_or_default();
    name.ends_with(b"\"items\"")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What comes out, for pieces of this many bytes.
    fn split(text: &str, piece: usize) -> (Vec<Value>, Value) {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            splitter.feed(piece, |element| {
                found.push(serde_json::from_slice(element).unwrap());
            });
        }
        (found, serde_json::from_slice(splitter.rest()).unwrap())
    }

    #[test]
    fn elements_are_found_wherever_the_pieces_end() {
        let objects = [
            json!({"metadata": {"name": "a", "labels": {"x": "]},{[\"\\"}}, "items": [1, [2], {}]}),
            json!({}),
            json!({"spec": [{"items": [{}]}], "text": "\"items\":["}),
        ];
        let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "7", "items": [1]}, "items": objects});
        for text in [
            list.to_string(),
            serde_json::to_string_pretty(&list).unwrap(),
        ] {
            for piece in 1..text.len() {
                let (found, rest) = split(&text, piece);
                assert_eq!(found, objects, "pieces of {piece}");
                assert_eq!(rest["metadata"]["resourceVersion"], "7");
                assert_eq!(rest["items"], json!([]));
            }
        }
    }

    #[test]
    fn no_items_are_none() {
        for text in [r#"{"items":[],"metadata":{}}"#, r#"{"items":null}"#, "{}"] {
            assert_eq!(split(text, 3).0, [json!(null); 0], "{text}");
        }
    }
}

//! `-o custom-columns=SPEC`: a table with columns of the user's choice.

use std::str::FromStr;

use ocicat_datastore::Object;

use super::jsonpath::Path;
use super::shape::plain;
use crate::columns;
use crate::failure::Failure;
use crate::table::Table;

/// The columns of a table.
///
/// kubectl's form is `NAME:.metadata.name,CIDR:.spec.cidr`, calicoctl's `NAME,CIDR` with headers of the wide table.
#[derive(Clone, Debug)]
pub struct Columns(Vec<Column>);

#[derive(Clone, Debug)]
enum Column {
    Path(String, Path),
    Header(String),
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim);
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err("name the columns: NAME:.metadata.name,CIDR:.spec.cidr".into());
        }
        let column = |part: &str| match part.split_once(':') {
            Some((header, path)) => Ok(Column::Path(header.to_owned(), path.parse()?)),
            None => Ok(Column::Header(part.to_uppercase())),
        };
        parts
            .into_iter()
            .map(column)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Columns {
    /// A file with the headers in its first line and the paths below them in its second.
    ///
    /// # Errors
    /// When there are not as many paths as headers, or one is none.
    pub fn of_file(text: &str) -> Result<Self, String> {
        let mut lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let (headers, paths) = (
            lines.next().unwrap_or_default(),
            lines.next().unwrap_or_default(),
        );
        if headers.is_empty() || headers.len() != paths.len() {
            return Err("the file has a line of headers and one of as many paths".into());
        }
        let pairs = headers.iter().zip(paths);
        let column = |(header, path): (&&str, &str)| {
            Ok::<_, String>(Column::Path((*header).to_owned(), path.parse()?))
        };
        pairs.map(column).collect::<Result<_, _>>().map(Self)
    }

    /// The table; `<none>` where an object has no such field, as in kubectl.
    ///
    /// # Errors
    /// A header that the objects' kind does not have.
    pub fn table(&self, objects: &[Object]) -> Result<Table, Failure> {
        let headers = self.0.iter().map(|column| match column {
            Column::Path(header, _) | Column::Header(header) => header.as_str(),
        });
        let mut table = Table::new(headers);
        for object in objects {
            let cells = self.0.iter().map(|column| column.cell(object));
            table.row(cells.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(table)
    }
}

impl Column {
    fn cell(&self, object: &Object) -> Result<String, Failure> {
        let text = match self {
            Self::Path(_, path) => {
                let found = path.of(&object.value)?;
                let texts: Vec<String> = found.into_iter().map(plain).collect();
                texts.join(",")
            }
            Self::Header(header) => columns::cell(object, header).ok_or_else(|| {
                let all = columns::headers(object.kind).join(", ");
                let kind = object.kind;
                Failure::Usage(format!(
                    "{kind} has no column {header}; there are {all}, or HEADER:.path"
                ))
            })?,
        };
        Ok(if text.is_empty() {
            "<none>".to_owned()
        } else {
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_what_kubectl_and_calicoctl_call_so() {
        let pool = |name: &str, size: serde_json::Value| {
            Object::from_value(json!({
                "apiVersion": "projectcalico.org/v3", "kind": "IPPool",
                "metadata": {"name": name, "labels": {"a.b/c": "x"}},
                "spec": {"cidr": "10.0.0.0/16", "blockSize": size, "allowedUses": ["Workload", "Tunnel"]},
            }))
            .expect("a pool")
        };
        let pools = [pool("p", 26.into()), pool("q", serde_json::Value::Null)];
        for (text, expected) in [
            (
                "NAME:.metadata.name,SIZE:.spec.blockSize",
                "NAME  SIZE\np     26\nq     <none>",
            ),
            (
                r"L:.metadata.labels.a\.b/c,U:spec.allowedUses[*]",
                "L  U\nx  Workload,Tunnel\nx  Workload,Tunnel",
            ),
            (
                "name,cidr",
                "NAME  CIDR\np     10.0.0.0/16\nq     10.0.0.0/16",
            ),
        ] {
            let table = text.parse::<Columns>().expect(text).table(&pools);
            assert_eq!(
                table.map(|table| table.to_string()),
                Ok(expected.to_owned())
            );
        }
        let file = Columns::of_file("N   C\n.metadata.name  .spec.cidr\n").expect("well formed");
        let table = file.table(&pools[..1]).map(|table| table.to_string());
        assert_eq!(table, Ok("N  C\np  10.0.0.0/16".to_owned()));
        assert!(Columns::of_file("A B\n.a\n").is_err());
        assert!("".parse::<Columns>().is_err());
        let unknown = "NAME,COLOUR"
            .parse::<Columns>()
            .expect("headers")
            .table(&pools);
        let unknown = unknown.expect_err("no such header").to_string();
        assert!(
            unknown.contains("COLOUR; there are NAME, CIDR"),
            "{unknown}"
        );
    }
}

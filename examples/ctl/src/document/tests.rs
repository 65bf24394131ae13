use serde::Deserialize;

use super::*;

const TEXT: &str = "\
name: x
pools:
  - name: a
    cidr: 10.0.0.0/16
    labels: {projectcalico.org/rack: a, n: 1}
  - {name: b, cidr: bad,
     size: 26}
---
---
{\"kind\": \"List\", \"items\": [
  {\"kind\": \"A\"},
  {\"kind\": \"B\", \"on\": true, \"none\": null}]}
";

#[test]
fn every_value_knows_its_line() {
    let documents = parse("f.yaml", TEXT).expect("the text is well formed");
    assert_eq!(documents.len(), 2);
    let lines = [
        ("name", 1),
        ("pools", 2),
        ("pools[0].name", 3),
        ("pools[0].cidr", 4),
        ("pools[0].labels.projectcalico.org/rack", 5),
        ("pools[1].cidr", 6),
        ("pools[1].size", 7),
        ("pools[1].absent", 6),
        ("pools[7]", 2),
    ];
    for (field, line) in lines {
        assert_eq!(documents[0].line(field), line, "{field}");
    }
    let items = documents[1].elements("items").expect("a list");
    assert_eq!(
        items
            .iter()
            .map(|item| item.line("kind"))
            .collect::<Vec<_>>(),
        [11, 12]
    );
    assert_eq!(
        items[1].to_json(),
        serde_json::json!({"kind": "B", "on": true, "none": null})
    );
    assert_eq!(documents[0].text("pools[1].cidr"), Some("bad"));
    assert_eq!(documents[0].to_json()["pools"][1]["size"], 26);
}

#[test]
fn faults_name_file_line_and_field() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Pool {
        name: String,
        size: u8,
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Pools {
        pools: Vec<Pool>,
    }
    let refused = |text: &str| match parse("f.yaml", text) {
        Ok(documents) => documents[0]
            .decode::<Pools>()
            .expect_err("must be refused")
            .to_string(),
        Err(fault) => fault.to_string(),
    };
    let cases = [
        (
            "pools:\n- name: a\n  size: big\n",
            "f.yaml:3: pools[0].size: invalid type: string \"big\", expected u8",
        ),
        (
            "pools:\n- name: a\n\n  siez: 1\n",
            "f.yaml:4: pools[0].siez: unknown field; expected `name` or `size`",
        ),
        (
            "pools:\n- size: 3\n",
            "f.yaml:2: pools[0]: missing field `name`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), expected);
    }
    let duplicate = refused("pools: []\npools: []\n");
    assert!(duplicate.starts_with("f.yaml:2: "), "{duplicate}");
    let syntax = refused("pools:\n  - [1\n");
    assert!(
        syntax.starts_with("f.yaml:") && !syntax.contains('\n'),
        "{syntax}"
    );
}

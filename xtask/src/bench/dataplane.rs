//! `cargo xtask bench dataplane`: what its programs print, then a table of what has a goal.

use std::fmt::Write as _;

use serde_json::Value;

use crate::stage;
use crate::workspace::cargo;

/// One line of the table: where its numbers are found, and the goal.
struct Row {
    what: &'static str,
    unit: &'static str,
    ours: Number,
    floor: Option<Number>,
    peer: Option<Number>,
    goal: Goal,
}

/// A number of the output: the line's `bench`, its `what` if it has one, and the field.
type Number = (&'static str, &'static str, &'static str);

/// At most so much.
enum Goal {
    /// In the row's unit.
    Absolute(f64),
    /// Times the floor.
    OfFloor(f64),
}

const fn load(name: &'static str, goal: f64) -> Row {
    Row {
        what: name,
        unit: "ms",
        ours: (name, "", "ms"),
        floor: Some((name, "", "floor_ms")),
        peer: Some((name, "", "nft_ms")),
        goal: Goal::Absolute(goal),
    }
}

const fn change(name: &'static str, goal: f64) -> Row {
    Row {
        what: name,
        unit: "us",
        ours: (name, "", "us_p50"),
        floor: Some((name, "", "floor_us_p50")),
        peer: None,
        goal: Goal::Absolute(goal),
    }
}

const fn connection(name: &'static str) -> Row {
    Row {
        what: name,
        unit: "us",
        ours: (name, "", "us_p50"),
        floor: Some(("new connection, no table", "", "us_p50")),
        peer: None,
        goal: Goal::OfFloor(1.35),
    }
}

const fn memory(what: &'static str, field: &'static str, goal: f64) -> Row {
    Row {
        what,
        unit: "MB",
        ours: ("routes", "memory", field),
        floor: None,
        peer: None,
        goal: Goal::Absolute(goal),
    }
}

const ROWS: [Row; 13] = [
    load("load, 1000 endpoints, 5 policies each", 30.0),
    load(
        "load, 1000 endpoints, 200 policies each, every two another list",
        500.0,
    ),
    change("one element, 100k elsewhere", 60.0),
    change("one policy replaced", 400.0),
    connection("new connection, 1000 endpoints, 10 policies in"),
    connection("new connection, 10000 endpoints, 10 policies in"),
    Row {
        what: "routes: program",
        unit: "ms",
        ours: ("routes", "program", "p50_ms"),
        floor: Some((
            "routes",
            "floor: program, the same messages prebuilt",
            "p50_ms",
        )),
        peer: Some(("routes", "peer: ip -batch", "p50_ms")),
        goal: Goal::Absolute(200.0),
    },
    Row {
        what: "routes: dump and compare",
        unit: "ms",
        ours: ("routes", "dump and adopt", "p50_ms"),
        floor: Some(("routes", "floor: dump, unread", "p50_ms")),
        peer: Some(("routes", "peer: ip route show", "p50_ms")),
        goal: Goal::Absolute(60.0),
    },
    memory("routes: netlink, programming", "netlink_program_mb", 10.0),
    memory("routes: netlink, reading", "netlink_dump_mb", 10.0),
    memory("routes: all, with state and view", "all_mb", 40.0),
    Row {
        what: "attach a pod",
        unit: "us",
        ours: ("attach", "attach", "p50_us"),
        floor: Some(("attach", "floor: the same messages, prebuilt", "p50_us")),
        peer: Some(("attach", "peer: ip -batch twice", "p50_us")),
        goal: Goal::OfFloor(1.2),
    },
    Row {
        what: "packets lost by 15 kinds of update, at 40,000 a second",
        unit: "",
        ours: ("packets lost", "", "updates"),
        floor: Some(("packets lost", "", "control")),
        peer: None,
        goal: Goal::Absolute(0.0),
    },
];

/// Packets a second of the flow whose losses are counted.
const RATE: &str = "40000";

/// Runs both programs and the test of losses at the benchmark's rate, then prints the table.
pub(super) fn run() -> Result<(), String> {
    let mut lines = Vec::new();
    for bench in ["net", "nft"] {
        let mut command = cargo();
        command.args(["bench", "-p", "ocicat-dataplane", "--all-features"]);
        command.args(["--quiet", "--locked", "--bench", bench]);
        stage::run_and_watch(&mut command, |line| {
            lines.extend(serde_json::from_str::<Value>(line).ok());
        })?;
    }
    let mut command = cargo();
    command.args(["test", "-p", "ocicat-dataplane", "--all-features"]);
    command.args(["--quiet", "--locked", "--release", "--test", "nft"]);
    command.args(["loss", "--", "--nocapture"]);
    command.env("OCNFT_RATE", RATE);
    let mut kinds = Vec::new();
    stage::run_and_watch(&mut command, |line| kinds.extend(json(line)))?;
    lines.push(losses(&kinds));
    println!("{}", table(&lines));
    Ok(())
}

/// What a line of a test's output says: the test harness may have begun it.
fn json(line: &str) -> Option<Value> {
    serde_json::from_str(&line[line.find('{')?..]).ok()
}

/// All packets that were lost, and those of the control, in which nothing changes; no numbers where nothing was counted.
fn losses(kinds: &[Value]) -> Value {
    let lost = |control: bool| {
        let of = kinds
            .iter()
            .filter(|kind| kind["bench"] == "loss" && (kind["what"] == "nothing") == control);
        of.map(|kind| Some(kind["sent"].as_u64()?.abs_diff(kind["out"].as_u64()?)))
            .reduce(|all, one| Some(all? + one?))
            .flatten()
    };
    let sent = |kind: &Value| kind["sent"].as_u64().unwrap_or(0);
    serde_json::json!({
        "bench": "packets lost",
        "updates": lost(false),
        "control": lost(true),
        "sent": kinds.iter().map(sent).sum::<u64>(),
    })
}

fn table(lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line["bench"] == "machine") {
        let (cpus, model) = (&line["cpus"], line["model"].as_str().unwrap_or_default());
        let (kernel, load) = (line["kernel"].as_str(), line["load"].as_str());
        let (kernel, load) = (kernel.unwrap_or_default(), load.unwrap_or_default());
        let _ = writeln!(text, "\n{cpus} x {model}, Linux {kernel}, load {load}");
    }
    let width = ROWS.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{:width$}  {:>12} {:>12} {:>12} {:>7} {:>7} {:>12}",
        "medians", "ours", "floor", "peer", "/floor", "/peer", "goal"
    );
    for row in &ROWS {
        let _ = writeln!(text, "{:width$}  {}", row.what, row.numbers(lines));
    }
    text.push_str(
        "Floor: the same messages, made beforehand, on open sockets; of new connections: no table; of lost packets: no\n\
         update. Peer: nft -f, ip -batch, ip route show.",
    );
    if let Some(sent) = find(lines, ("packets lost", "", "sent")) {
        let _ = write!(text, " Lost of {sent} packets.");
    }
    text
}

impl Row {
    fn numbers(&self, lines: &[Value]) -> String {
        let ours = find(lines, self.ours);
        let floor = self.floor.and_then(|number| find(lines, number));
        let peer = self.peer.and_then(|number| find(lines, number));
        let shown = |value: Option<f64>| match value {
            Some(value) => format!("{} {}", rounded(value), self.unit),
            None => "-".to_owned(),
        };
        let share = |of: Option<f64>| match (ours, of) {
            (Some(ours), Some(of)) if of > 0.0 => format!("{:.2}", ours / of),
            _ => "-".to_owned(),
        };
        let (goal, most) = match self.goal {
            Goal::Absolute(most) => (format!("{} {}", rounded(most), self.unit), Some(most)),
            Goal::OfFloor(times) => (format!("{times} x floor"), floor.map(|floor| floor * times)),
        };
        let outcome = match (ours, most) {
            (Some(ours), Some(most)) if ours <= most => "reached",
            (Some(_), Some(_)) => "missed",
            _ => "not measured",
        };
        let (ratio, beside) = (share(floor), share(peer));
        let (ours, floor, peer) = (shown(ours), shown(floor), shown(peer));
        format!("{ours:>12} {floor:>12} {peer:>12} {ratio:>7} {beside:>7} {goal:>12}  {outcome}")
    }
}

fn find(lines: &[Value], (bench, what, field): Number) -> Option<f64> {
    let of = |line: &&Value| {
        line["bench"] == bench
            && (what.is_empty() || line["what"] == what)
            && line[field].is_number()
    };
    lines.iter().find(of).and_then(|line| line[field].as_f64())
}

fn rounded(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_measured_and_what_was_not() {
        let lines: Vec<Value> = [
            r#"{"bench":"machine","cpus":2,"model":"M","kernel":"6.18","load":"1 1 1"}"#,
            r#"{"bench":"attach","what":"attach","p50_us":500}"#,
            r#"{"bench":"attach","what":"floor: the same messages, prebuilt","p50_us":400}"#,
            r#"{"bench":"one policy replaced","us_p50":390.5,"floor_us_p50":300}"#,
        ]
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
        let text = table(&lines);
        let line = |name: &str| {
            let found = text.lines().find(|line| line.starts_with(name));
            let words: Vec<&str> = found.expect(name)[name.len()..]
                .split_whitespace()
                .collect();
            words.join(" ")
        };
        assert!(text.contains("2 x M, Linux 6.18, load 1 1 1"));
        assert_eq!(
            line("attach a pod"),
            "500 us 400 us - 1.25 - 1.2 x floor missed"
        );
        assert_eq!(
            line("one policy replaced"),
            "390 us 300 us - 1.30 - 400 us reached"
        );
        assert_eq!(
            line("packets lost by 15 kinds of update, at 40,000 a second"),
            "- - - - - 0.0 not measured"
        );
        assert_eq!(line("routes: program"), "- - - - - 200 ms not measured");
    }

    #[test]
    fn losses_are_those_of_all_kinds_and_unknown_where_one_was_not_counted() {
        let kind = |what: &str, sent: u64, out: u64| serde_json::json!({"bench": "loss", "what": what, "sent": sent, "out": out});
        let mut kinds = vec![
            kind("nothing", 10, 10),
            kind("one policy", 20, 19),
            kind("a set", 30, 28),
        ];
        let all = losses(&kinds);
        assert_eq!((&all["updates"], &all["control"]), (&3.into(), &0.into()));
        assert_eq!(all["sent"], 60);
        kinds.push(serde_json::json!({"bench": "loss", "what": "a link"}));
        assert_eq!(losses(&kinds)["updates"], Value::Null);
        assert_eq!(losses(&[])["control"], Value::Null);
    }

    #[test]
    fn a_line_of_a_test_is_read_behind_what_the_harness_printed() {
        assert_eq!(
            json("test loss::all ... {\"a\":1}"),
            Some(serde_json::json!({"a": 1}))
        );
        assert_eq!(json("running 1 test"), None);
    }
}

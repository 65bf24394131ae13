use std::sync::atomic::{AtomicU32, Ordering};

use ocicat_datastore::{Backend, Call, Fate, Memory, Metadata};

use super::*;
use crate::control::BgpShown;

fn known() -> Known {
    let peer = |address: &str, kind: &str, established: bool| Peer {
        address: address.to_owned(),
        kind: kind.to_owned(),
        state: if established { "Established" } else { "Active" }.to_owned(),
        established,
        since_s: 60.0,
        ..Peer::default()
    };
    let status = Status {
        version: "1.2.3".to_owned(),
        bgp: BgpShown {
            as_number: 64512,
            router_id: "192.0.2.1".to_owned(),
            ..BgpShown::default()
        },
        peers: vec![
            peer("192.0.2.2", "node-to-node mesh", true),
            peer("192.0.2.9", "global", false),
            peer("2001:db8::2", "node specific", true),
        ],
        ..Status::default()
    };
    let routes = json!([
        {"prefix": "10.0.1.0/26", "installed": true, "interface": "eth0",
         "paths": [{"peer": "192.0.2.2", "nextHop": "192.0.2.2"}]},
        {"prefix": "10.0.0.0/26", "installed": false, "interface": null, "paths": [{"peer": null, "nextHop": null}]},
        {"prefix": "fd00::/122", "installed": true, "interface": "eth0",
         "paths": [{"peer": "2001:db8::2", "nextHop": "2001:db8::2"}]},
    ]);
    Known {
        status,
        routes: routes.as_array().unwrap().clone(),
        started: "2026-01-01T00:00:00Z".to_owned(),
    }
}

fn spec(classes: &[&str], period: Option<u32>) -> CalicoNodeStatusSpec {
    CalicoNodeStatusSpec {
        node: "node1".to_owned(),
        classes: classes.iter().map(|one| (*one).to_owned()).collect(),
        update_period_seconds: period,
    }
}

#[test]
fn only_what_is_asked_for_is_answered() {
    for classes in [&["Agent"][..], &["BGP", "Routes"], &[]] {
        let answer = status(&spec(classes, None), &known(), "now");
        let members: Vec<&str> = answer
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected: Vec<String> = classes.iter().map(|one| one.to_lowercase()).collect();
        expected.push("lastUpdated".to_owned());
        expected.sort();
        assert_eq!(members, expected);
    }
}

#[test]
fn an_answer_has_calicos_fields() {
    let answer = status(&spec(&["Agent", "BGP", "Routes"], None), &known(), "now");
    assert_eq!(answer["agent"]["birdV4"]["state"], "Ready");
    assert_eq!(answer["agent"]["birdV6"]["routerID"], "192.0.2.1");
    assert_eq!(
        answer["agent"]["birdV4"]["lastBootTime"],
        "2026-01-01T00:00:00Z"
    );
    let bgp = &answer["bgp"];
    assert_eq!(
        (&bgp["numberEstablishedV4"], &bgp["numberNotEstablishedV4"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&bgp["numberEstablishedV6"], &bgp["numberNotEstablishedV6"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(bgp["peersV4"][0]["type"], "NodeMesh");
    assert_eq!(bgp["peersV4"][1]["type"], "GlobalPeer");
    assert_eq!(bgp["peersV4"][1]["state"], "Active");
    assert_eq!(bgp["peersV6"][0]["type"], "NodePeer");
    assert_eq!(
        answer["routes"]["routesV4"],
        json!([
            {"type": "FIB", "destination": "10.0.1.0/26", "gateway": "192.0.2.2", "interface": "eth0",
             "learnedFrom": {"sourceType": "NodeMesh", "peerIP": "192.0.2.2"}},
            {"type": "RIB", "destination": "10.0.0.0/26", "gateway": "", "interface": "",
             "learnedFrom": {"sourceType": "Static"}},
        ])
    );
    assert_eq!(
        answer["routes"]["routesV6"][0]["learnedFrom"]["sourceType"],
        "BGPPeer"
    );
}

fn question(name: &str, spec: CalicoNodeStatusSpec) -> CalicoNodeStatus {
    CalicoNodeStatus {
        metadata: Metadata::named(name),
        spec,
        ..CalicoNodeStatus::default()
    }
}

/// The agent's core, as far as it is asked here.
async fn core(mut questions: mpsc::Receiver<Question>, asked: Arc<AtomicU32>) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::Status(answer) => {
                asked.fetch_add(1, Ordering::Relaxed);
                drop(answer.send(known().status));
            }
            Question::Routes(answer) => drop(answer.send(Value::Array(known().routes))),
            _ => unreachable!("nothing else is asked"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn objects_of_this_node_are_answered_at_their_period() {
    let store = Store::new(Arc::new(Memory::new()) as Arc<dyn Backend>);
    for (name, node, period) in [
        ("own", "node1", Some(30)),
        ("other", "node2", None),
        ("never", "node1", Some(0)),
    ] {
        let mut spec = spec(&["BGP"], period);
        spec.node = node.to_owned();
        store.create(question(name, spec)).await.unwrap();
    }
    let (facts, told) = watch::channel(Arc::new(Facts::default()));
    let (asking, questions) = mpsc::channel(4);
    let asked = Arc::new(AtomicU32::new(0));
    tokio::spawn(core(questions, Arc::clone(&asked)));
    let answering = tokio::spawn(answer(store.clone(), "node1".to_owned(), asking, told));
    let answered = |name: &'static str| {
        let store = store.clone();
        async move { store.get::<CalicoNodeStatus>(name).await.unwrap().unwrap() }
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(answered("own").await.status, None, "the agent is not ready");
    facts.send_replace(Arc::new(Facts {
        ready: true,
        ..Facts::default()
    }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = answered("own").await;
    assert_eq!(
        first.status.as_ref().unwrap()["bgp"]["numberEstablishedV4"],
        1
    );
    let times = || asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        times(),
        1,
        "the period is not over, and the own answer is no question"
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(times(), 2);
    for name in ["other", "never"] {
        assert_eq!(answered(name).await.status, None, "{name}");
    }
    drop(facts);
    answering.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_one_write_and_waits_while_the_datastore_is_locked() {
    let memory = Arc::new(Memory::new());
    let store = Store::new(Arc::clone(&memory) as Arc<dyn Backend>);
    let mut spec = spec(&["BGP"], Some(30));
    "node1".clone_into(&mut spec.node);
    store.create(question("own", spec)).await.unwrap();
    let ready = Facts {
        ready: true,
        ..Facts::default()
    };
    let (facts, told) = watch::channel(Arc::new(ready.clone()));
    let (asking, questions) = mpsc::channel(4);
    tokio::spawn(core(questions, Arc::default()));
    tokio::spawn(answer(store.clone(), "node1".to_owned(), asking, told));
    let answered = async || store.get::<CalicoNodeStatus>("own").await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let requests = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&requests);
    memory.set_hook(move |_: Call<'_>| {
        counting.fetch_add(1, Ordering::Relaxed);
        Fate::Proceed
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(requests.load(Ordering::Relaxed), 1, "one write a period");
    memory.clear_hook();
    // Somebody else writes it meanwhile, and the next answer is none the worse.
    let label = |one: &mut CalicoNodeStatus| {
        let labels = &mut one.metadata.labels;
        labels.insert("who".to_owned(), "me".to_owned());
    };
    store.modify("own", label).await.unwrap();
    facts.send_replace(Arc::new(Facts {
        locked: true,
        ..ready.clone()
    }));
    let locked = answered().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(answered().await, locked, "the datastore is locked");
    facts.send_replace(Arc::new(ready));
    tokio::time::sleep(Duration::from_secs(31)).await;
    let now = answered().await;
    assert!(now.revision > locked.revision && now.metadata.labels.contains_key("who"));
}

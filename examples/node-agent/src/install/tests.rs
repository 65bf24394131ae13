use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn plugins_take_the_old_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("bin"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("ocicat"), "new").unwrap();
    let config = InstallConfig {
        plugins: Some(from),
        cni_bin: Some(to.clone()),
        ..InstallConfig::default()
    };
    let mut record = Record::default();
    let copied = |record: &mut Record| plugins(&config, record).unwrap();
    assert_eq!(copied(&mut record).copied, 1);
    let mode = std::fs::metadata(to.join("ocicat"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(copied(&mut record), Plugins::default(), "the same again");
    std::fs::write(to.join("ocicat"), "an older one, whose record is lost").unwrap();
    assert_eq!(copied(&mut Record::default()).copied, 1);
    let none = plugins(&InstallConfig::default(), &mut record);
    assert_eq!(none.unwrap(), Plugins::default());
}

#[test]
fn a_plugin_of_the_hosts_own_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("bin"));
    for (folder, content) in [(&from, "ours"), (&to, "the host's")] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("portmap"), content).unwrap();
    }
    let config = InstallConfig {
        plugins: Some(from.clone()),
        cni_bin: Some(to.clone()),
        ..InstallConfig::default()
    };
    let mut record = Record::default();
    let target = to.join("portmap");
    let kept = plugins(&config, &mut record).unwrap();
    assert_eq!((kept.copied, kept.kept), (0, vec![target.clone()]));
    assert_eq!(std::fs::read(&target).unwrap(), b"the host's");
    // Where it had none, ours is put there, and a newer one takes its place.
    std::fs::remove_file(&target).unwrap();
    for content in ["ours", "ours, newer"] {
        std::fs::write(from.join("portmap"), content).unwrap();
        assert_eq!(plugins(&config, &mut record).unwrap().copied, 1);
        assert_eq!(std::fs::read(&target).unwrap(), content.as_bytes());
    }
}

#[test]
fn programs_that_are_there_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = InstallConfig {
        host_etc: Some(folder.path().to_path_buf()),
        ..InstallConfig::default()
    };
    let mut record = Record::default();
    let mut host = || host(&config, &mut record).unwrap();
    assert!(host().is_empty(), "nobody is there");
    std::fs::create_dir(folder.path().join("NetworkManager")).unwrap();
    std::fs::create_dir(folder.path().join("systemd")).unwrap();
    assert_eq!(host().len(), 4);
    assert!(host().is_empty());
    let folder_mode = std::fs::metadata(folder.path().join("systemd/networkd.conf.d"));
    let mode = folder_mode.unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "systemd-networkd is not root");
    let text =
        std::fs::read_to_string(folder.path().join("NetworkManager/conf.d/ocicat.conf")).unwrap();
    assert!(
        text.contains("interface-name:cali*;") && text.contains("interface-name:vxlan.calico"),
        "{text}"
    );
}

#[test]
fn host_ports_and_bandwidth_are_chained_where_they_are_installed() {
    let folder = tempfile::tempdir().unwrap();
    let types = || {
        let text = conflist(Path::new("/run/x.sock"), &[folder.path()], true);
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let plugins = list["plugins"].as_array().unwrap().iter();
        plugins
            .map(|one| one["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(), ["ocicat"]);
    std::fs::write(folder.path().join("portmap"), "").unwrap();
    std::fs::write(folder.path().join("bandwidth"), "").unwrap();
    assert_eq!(types(), ["ocicat", "portmap", "bandwidth"]);
}

#[tokio::test(start_paused = true)]
async fn the_network_is_offered_when_the_agent_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let config = InstallConfig {
        cni_net: Some(folder.path().join("net.d")),
        ..InstallConfig::default()
    };
    let (tell, facts) = watch::channel(Arc::new(Facts::default()));
    let path = folder.path().join("net.d").join(CONFLIST);
    let task = tokio::spawn(network(config, "/run/ocicat/cni.sock".into(), facts));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!path.exists());
    let ready = Facts {
        ready: true,
        ..Facts::default()
    };
    tell.send_replace(Arc::new(ready));
    task.await.unwrap();
    let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(text["plugins"][0]["type"], "ocicat");
    assert_eq!(text["plugins"][0]["socket"], "/run/ocicat/cni.sock");
}

#[test]
fn a_network_that_comes_before_ours_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "10-calico.conflist",
        "05-other.conf",
        "10-ocicat.conflist",
        "99-loopback.conf",
        "00-notes.txt",
        "10-flannel.conflist.off",
    ] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let found = before_ours(folder.path());
    assert_eq!(found, ["05-other.conf", "10-calico.conflist"]);
}

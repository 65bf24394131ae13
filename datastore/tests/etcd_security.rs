//! etcd with TLS, client certificates, and users. Needs Debian's `etcd-server`; the authority is made here.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Server, patiently};
use etcd_client::{Client, Permission, PermissionType};
use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::{Etcd, EtcdOptions, Metadata, Store, StoreError, open};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

fn set(name: &str) -> GlobalNetworkSet {
    GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    }
}

async fn write(store: &Store, name: &str) -> Result<(), StoreError> {
    let written = patiently(async || store.put(set(name)).await).await;
    written.map(drop)
}

async fn is_there(store: &Store, name: &str) -> Result<bool, StoreError> {
    let found = patiently(async || store.get::<GlobalNetworkSet>(name).await).await;
    found.map(|found| found.is_some())
}

/// Files of an authority and of what it has signed, in a folder: `ca.pem`, `server.pem`, `client.pem` and their keys.
fn make_certificates(folder: &Path, name: &str) {
    let put = |file: &str, text: String| {
        std::fs::write(folder.join(file), text).expect("a file");
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("an authority");
    put("ca.pem", certificate.pem());
    let issuer = Issuer::new(params, key);
    for who in ["server", "client"] {
        let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, who);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &issuer).expect("a certificate");
        put(&format!("{who}.pem"), signed.pem());
        put(&format!("{who}.key"), key.serialize_pem());
    }
}

fn server_arguments(folder: &Path) -> Vec<String> {
    let path = |file: &str| folder.join(file).display().to_string();
    vec![
        "--cert-file".to_owned(),
        path("server.pem"),
        "--key-file".to_owned(),
        path("server.key"),
        "--trusted-ca-file".to_owned(),
        path("ca.pem"),
        "--client-cert-auth".to_owned(),
    ]
}

fn copy(from: &Path, to: &Path, files: &[&str]) {
    for file in files {
        // As a secret is replaced: a new file under the old name.
        let new = to.join(format!("{file}.new"));
        std::fs::copy(from.join(file), &new).expect("a copy");
        std::fs::rename(new, to.join(file)).expect("a rename");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_both_sides_and_their_replacement() {
    let folder = tempfile::tempdir().expect("a folder");
    let [old, new, of_server, mine] = ["old", "new", "server", "mine"].map(|name| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        path
    });
    make_certificates(&old, "old authority");
    make_certificates(&new, "new authority");
    let of_servers = ["ca.pem", "server.pem", "server.key"];
    let of_clients = ["ca.pem", "client.pem", "client.key"];
    copy(&old, &of_server, &of_servers);
    copy(&old, &mine, &of_clients);
    let mut server = Server::new(&server_arguments(&of_server));
    server.run();
    let path = |file: &str| mine.join(file).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let url = server.url();
    let store =
        Store::new(open(&format!("etcd:{url}?ca={ca}&cert={cert}&key={key}")).expect("a store"));
    write(&store, "a").await.expect("a write over TLS");

    // Whoever shows no certificate, or does not know the authority, is not let in.
    let strangers = [
        format!("etcd:{url}?ca={ca}"),
        format!("etcd:{url}?ca={}", new.join("ca.pem").display()),
        format!("etcd:{}?ca={ca}", url.replace("https:", "http:")),
    ];
    for stranger in strangers {
        let stranger = Store::new(open(&stranger).expect("a store"));
        let refused = stranger.get::<GlobalNetworkSet>("a").await;
        let reason = refused.expect_err("a refusal");
        assert!(matches!(reason, StoreError::Unavailable { .. }), "{reason}");
    }

    // The authority is replaced on the server. Calls fail until ours is, too, and then go on in the same store.
    server.kill();
    copy(&new, &of_server, &of_servers);
    server.run();
    let refused = store.get::<GlobalNetworkSet>("a").await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    copy(&new, &mine, &of_clients);
    assert!(is_there(&store, "a").await.expect("a read"));

    // Files that cannot be used, half written perhaps, end no connection that works.
    std::fs::write(mine.join("client.pem"), "-----BEGIN CERTI").expect("half a file");
    let written = write(&store, "b").await;
    written.expect("a write over the connection that works");
    copy(&new, &mine, &of_clients);
    write(&store, "c").await.expect("a write");

    let missing = open(&format!("etcd:{url}?ca={}", path("nowhere.pem"))).expect("a store");
    let error = Store::new(missing).get::<GlobalNetworkSet>("a").await;
    let error = error.expect_err("no such file").to_string();
    assert!(error.contains("nowhere.pem"), "{error}");
}

/// Switches users on: root, and one of our own with our keys alone.
async fn enable_users(url: &str, password: &str) {
    let client = Client::connect([url], None).await.expect("a client");
    let mut auth = client.auth_client();
    auth.user_add("root", "all", None).await.expect("root");
    auth.role_add("root").await.expect("a role");
    auth.user_grant_role("root", "root")
        .await
        .expect("a role of root");
    auth.user_add("node", password, None).await.expect("a user");
    auth.role_add("calico").await.expect("a role");
    let all = Permission::new(PermissionType::Readwrite, "/calico/").with_prefix();
    auth.role_grant_permission("calico", all)
        .await
        .expect("a permission");
    auth.user_grant_role("node", "calico")
        .await
        .expect("a role of the user");
    auth.auth_enable().await.expect("users");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_their_passwords() {
    let mut server = Server::start();
    let file = server.folder.path().join("password");
    std::fs::write(&file, "first\n").expect("a file");
    enable_users(&server.url(), "first").await;
    let url = server.url();
    let with = |prefix: &str| {
        let mut options = EtcdOptions::new([url.clone()]);
        options.user = Some(("node".to_owned(), file.clone()));
        prefix.clone_into(&mut options.prefix);
        Store::new(Arc::new(Etcd::new(options).expect("a store")))
    };
    let store = with("/calico");
    write(&store, "a").await.expect("a write");
    let elsewhere = write(&with("/other"), "a").await;
    assert!(
        matches!(elsewhere, Err(StoreError::Unauthorised { .. })),
        "{elsewhere:?}"
    );
    let nobody = Store::new(Arc::new(server.store()));
    let refused = is_there(&nobody, "a").await;
    assert!(
        matches!(refused, Err(StoreError::Unauthorised { .. })),
        "{refused:?}"
    );

    // A server that was restarted knows no tokens any more.
    server.kill();
    server.run();
    assert!(is_there(&store, "a").await.expect("a read"));

    // Another password: whoever has it goes on, whoever connects with the old one is refused.
    let options = etcd_client::ConnectOptions::new().with_user("root", "all");
    let root = Client::connect([server.url()], Some(options))
        .await
        .expect("root");
    let mut auth = root.auth_client();
    auth.user_change_password("node", "second")
        .await
        .expect("a password");
    let late = is_there(&with("/calico"), "a").await;
    assert!(
        matches!(late, Err(StoreError::Unauthorised { .. })),
        "{late:?}"
    );
    std::fs::write(&file, "second\n").expect("a file");
    assert!(is_there(&store, "a").await.expect("a read"));
    assert!(is_there(&with("/calico"), "a").await.expect("a read"));
}

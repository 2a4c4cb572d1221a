//! Object stores on loopback for tests: real servers from PyPI and npm, and a stub where there is none that fits.
//!
//! | function | server | it is |
//! | --- | --- | --- |
//! | [`s3`] | SeaweedFS | an S3 that keeps its promises |
//! | [`s3_without_conditions`] | rclone | an S3 that ignores `If-None-Match`: no place for tables |
//! | [`azure`] | Azurite | Microsoft's emulator of its blob storage |
//! | [`gcs`] | a stub here | the XML API of Google, with faults on demand |
//!
//! Each call starts a server of its own, with one empty bucket `lake`, on ports that no other test has; it ends when the value
//! is dropped. Where a program is missing and cannot be installed, there is none, and the test says so and is skipped; in
//! CI that is a failure.

mod bucket;
mod checks;
mod gcs;
mod http;
mod install;
mod process;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};

pub use gcs::{Call, Fault, gcs};
pub use http::Request;
pub use install::browser;
use process::Process;

/// A server with one bucket, or container, `lake`.
pub struct Server {
    /// Where it answers: `http://127.0.0.1:20006`.
    pub endpoint: String,
    /// The bucket, as the root of a lake: `s3://lake`.
    pub url: String,
    /// What a program needs in its environment to find the server and be let in.
    pub env: Vec<(String, String)>,
    process: Option<Process>,
}

/// The account of Azurite and its key, which Microsoft has published:
/// <https://learn.microsoft.com/azure/storage/common/storage-connect-azurite>.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container, which `object_store` cannot: signed as in
/// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.
const MAKE_CONTAINER: &str = r#"
const [endpoint, account, key, container] = process.argv.slice(1);
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02", "content-length": 0 };
const named = ["x-ms-date", "x-ms-version"].map((name) => `${name}:${headers[name]}\n`).join("");
const text = `PUT${"\n".repeat(12)}${named}/${account}/${account}/${container}\nrestype:container`;
const signature = require("crypto").createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
headers.authorization = `SharedKey ${account}:${signature}`;
const url = `${endpoint}/${account}/${container}?restype=container`;
require("http").request(url, { method: "PUT", headers }, (answer) => {
    // 409: an earlier try has made it.
    if (![201, 409].includes(answer.statusCode)) throw new Error(`${answer.statusCode}`);
    answer.resume();
}).end();
"#;

/// SeaweedFS: conditional writes, paging, multipart uploads, and signatures that are checked.
pub fn s3() -> Option<Server> {
    let program = install::seaweedfs()?;
    let mut process = Process::start("SeaweedFS", &program, |command, folder, ports| {
        command.env("AWS_ACCESS_KEY_ID", "lake").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.args(["-logtostderr=true", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-metricsIp=127.0.0.1"]);
        // What it does by default and nobody here wants: telemetry, a page for people, and other protocols.
        command.args(["-master.telemetry=false", "-admin.ui=false", "-webdav=false"]);
        command.args(["-s3.port.lance=0", "-s3.port.iceberg=0", "-bucket=lake"]);
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        command.arg(format!("-dir={}", data.display()));
        for (at, name) in (0..).zip(SEAWEEDFS_PORTS) {
            command.arg(format!("-{name}={}", ports.port(at)));
        }
        for role in ["filer", "s3"] {
            command.arg(format!("-{role}.localSocket={}", folder.join(role).display()));
        }
    });
    let sockets = (0..).zip(SEAWEEDFS_PORTS).filter_map(|(at, name)| {
        let role = name.strip_suffix(".port.grpc")?;
        Some(PathBuf::from(format!("/tmp/seaweedfs-{role}-grpc-{}.sock", process.port(at))))
    });
    process.leaves = sockets.collect();
    Some(Server::of_s3(process))
}

/// The first is that of S3.
const SEAWEEDFS_PORTS: [&str; 10] = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
];

/// rclone: it answers like S3, and writes whatever the condition says, so that each of several writers believes it was
/// the one.
pub fn s3_without_conditions() -> Option<Server> {
    let program = install::rclone()?;
    let process = Process::start("rclone", &program, |command, folder, ports| {
        let buckets = folder.join("buckets");
        std::fs::create_dir_all(buckets.join("lake")).unwrap();
        command.args(["serve", "s3", "--config", "/dev/null", "--auth-key", "lake,secret"]);
        command.args(["--addr", &format!("127.0.0.1:{}", ports.port(0))]).arg(buckets);
    });
    Some(Server::of_s3(process))
}

/// Azurite's blob service, in memory.
pub fn azure() -> Option<Server> {
    let program = install::azurite()?;
    let mut process = Process::start("Azurite", &program, |command, _, ports| {
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &ports.port(0).to_string()]);
    });
    let endpoint = format!("http://127.0.0.1:{}", process.port(0));
    process.wait(0, || {
        let mut command = std::process::Command::new("node");
        command.args(["-e", MAKE_CONTAINER, &endpoint, AZURE_ACCOUNT, AZURE_KEY, "lake"]);
        crate::reader::run(&mut command).map(drop)
    });
    let env = [
        ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT),
        ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY),
        // Says that the account is part of the path, and that names after an offset cannot be asked for.
        ("AZURE_STORAGE_USE_EMULATOR", "true"),
        // With that, `object_store` looks here for the endpoint, and only in the environment.
        (AZURITE_URL, &endpoint),
    ];
    Some(Server { url: "az://lake".to_owned(), env: owned(&env), endpoint, process: Some(process) })
}

const AZURITE_URL: &str = "AZURITE_BLOB_STORAGE_URL";

impl Server {
    /// A server that answers as S3 at its first port, once it does.
    fn of_s3(mut process: Process) -> Self {
        let endpoint = format!("http://127.0.0.1:{}", process.port(0));
        let env = owned(&[
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "lake"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]);
        let mut server = Self { endpoint, url: "s3://lake".to_owned(), env, process: None };
        process.wait(0, || server.takes_objects());
        server.process = Some(process);
        server
    }

    /// Whether an object can be written to the bucket, and taken away again.
    fn takes_objects(&self) -> Result<(), String> {
        let probe = async {
            let (store, path) = (self.store(), Path::from("ready"));
            // First, because a write would make the bucket.
            store.list_with_delimiter(None).await?;
            store.put(&path, "ready".into()).await?;
            store.delete(&path).await
        };
        let answer = block_on(async { tokio::time::timeout(Duration::from_secs(5), probe).await });
        answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())
    }

    /// The bucket, for the test itself.
    pub fn store(&self) -> Arc<dyn Store> {
        match self.url.split_once(':').unwrap().0 {
            "s3" => {
                let builder = AmazonS3Builder::new().with_url(&self.url);
                Arc::new(self.options().fold(builder, |it, (key, value)| it.with_config(key, value)).build().unwrap())
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::new().with_url(&self.url);
                Arc::new(self.options().fold(builder, |it, (key, value)| it.with_config(key, value)).build().unwrap())
            }
            _ => {
                let builder = MicrosoftAzureBuilder::new().with_url(&self.url);
                let builder = builder.with_http_connector(Detour { endpoint: self.endpoint.clone() });
                Arc::new(self.options().fold(builder, |it, (key, value)| it.with_config(key, value)).build().unwrap())
            }
        }
    }

    /// The environment as options of a store.
    fn options<Key: FromStr>(&self) -> impl Iterator<Item = (Key, &str)> {
        self.env.iter().filter_map(|(key, value)| Some((key.to_lowercase().parse().ok()?, value.as_str())))
    }
}

/// What tests ask of a store; pages can be of any size.
pub trait Store: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Store for T {}

/// Sends what goes to Azurite's usual port to the port of the server: in a test, which shares its environment with
/// others, [`AZURITE_URL`] cannot be set.
#[derive(Clone, Debug)]
struct Detour {
    endpoint: String,
}

#[derive(Debug)]
struct OnDetour {
    client: HttpClient,
    endpoint: String,
}

impl HttpConnector for Detour {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(OnDetour { client, endpoint: self.endpoint.clone() }))
    }
}

#[async_trait]
impl HttpService for OnDetour {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = format!("{}{target}", self.endpoint).parse().unwrap();
        self.client.execute(request).await
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Runs a future to its end, on threads of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

//! A server that speaks S3: moto, from PyPI. Dropping it kills it.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The bucket that is made.
pub const BUCKET: &str = "files";

/// A running server.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    address: SocketAddr,
}

impl S3 {
    /// Starts a server and makes the bucket.
    pub async fn start() -> Self {
        // It takes no port 0; nobody else takes this one in the meantime.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a free port");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("uploads/venv/bin/moto_server");
        // The kernel kills it with the thread that started it: no test leaves one behind.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make test` installs it", program.display()));
        let server = Self { child, address };
        let http = reqwest::Client::new();
        let bucket = format!("{}/{BUCKET}", server.endpoint());
        let made = async {
            while http.put(&bucket).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), made)
            .await
            .expect("moto answers");
        server
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// core-service's settings for it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STUDIOS_CORE_OBJECTS", format!("s3://{BUCKET}")),
            ("STUDIOS_CORE_OBJECTS_ENDPOINT", self.endpoint()),
            ("STUDIOS_CORE_OBJECTS_ACCESS_KEY", "test".into()),
            ("STUDIOS_CORE_OBJECTS_SECRET_KEY", "test".into()),
        ]
    }

    /// The names of all its objects, and of the uploads of parts that are not complete.
    pub async fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for what in ["?list-type=2", "?uploads"] {
            let url = format!("{}/{BUCKET}{what}", self.endpoint());
            let listed = reqwest::get(url)
                .await
                .expect("moto answers")
                .text()
                .await
                .expect("a text");
            names.extend(listed.split("<Key>").skip(1).map(|it| {
                let (name, _) = it.split_once("</Key>").expect("a name ends");
                name.to_owned()
            }));
        }
        names
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A file of 100 MiB up and down, by gRPC and by HTTP through the gateway, beside one plain program that copies and hashes the
//! same bytes over loopback in the same run; and the memory that the services take for it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use futures::{future::try_join_all, stream};
use sha2::{Digest, Sha256};
use studios_proto::core::{
    BusinessArea, Company, CreateCompanyRequest, CreateDownloadUrlRequest, CreateStudioRequest, CreateUploadRequest,
    DownloadFileRequest, IndustryType, NewFile, RegisterRequest, Studio, UploadFileRequest,
};
use url::Url;
use uuid::Uuid;

use super::{
    Effort, cpu, progress,
    report::{Report, median},
    rig::{ADDRESS_LIMIT, Rig},
};
use crate::remote::{Gateway, Remote};

const MIB: usize = 1 << 20;
const MESSAGE_BYTES: usize = 256 << 10;
const SOCKET_BYTES: usize = 256 << 10;
/// Of the measurement of what several at once take of memory.
const AT_ONCE: usize = 8;

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let size = effort.many(100) * MIB;
    let rounds = effort.rounds(5);
    let rig = Rig::start(&mut report, false, &[ADDRESS_LIMIT]).await?;
    sqlx::query("update core.plans set storage_bytes = 1::bigint << 40")
        .execute(&mut rig.admin().await?)
        .await
        .context("making room")?;
    let it = Client::sign_up(rig.gateway()?).await?;
    let service = rig.processes().await?.service;
    let folder = rig.ground.log("plain");
    report.condition("size_mib", size / MIB);
    report.condition("rounds_of_which_the_median", rounds);
    report.condition(
        "plain",
        "one program: a thread sends, another takes, hashes (SHA-256) and writes to a file, and syncs it; down: without the file",
    );

    let warm = it.upload_grpc(&content(MIB, 0)).await?;
    it.download_grpc(&warm).await?;
    let rest_mb = cpu::resident_mb(service)?;
    let watch = Watch::start(service);
    let mut seen: [Vec<f64>; 6] = Default::default();
    for round in 1..=rounds {
        let bytes = content(size, round);
        let mut note = |place: usize, began: Instant| seen[place].push(rate(size, began));
        let began = Instant::now();
        plain(&bytes, Some(folder.clone()))?;
        note(0, began);
        let began = Instant::now();
        plain(&bytes, None)?;
        note(1, began);
        let began = Instant::now();
        let file = it.upload_grpc(&bytes).await?;
        note(2, began);
        let began = Instant::now();
        if it.download_grpc(&file).await? != size {
            bail!("a download by gRPC was not whole");
        }
        note(3, began);
        // Other bytes, or they would be known already.
        let bytes = content(size, round + 1000);
        let path = it.begin_upload(size).await?;
        let began = Instant::now();
        let gateway = it.url.clone();
        tokio::task::spawn_blocking(move || upload_http(&gateway, &path, &bytes)).await??;
        note(4, began);
        let (gateway, path) = (it.url.clone(), it.download_url(&file).await?);
        let began = Instant::now();
        if tokio::task::spawn_blocking(move || download_http(&gateway, &path)).await?? != size {
            bail!("a download by HTTP was not whole");
        }
        note(5, began);
        progress(format_args!("  round {round} of {rounds}"));
    }
    let one_mb = watch.most()? - rest_mb;
    let [plain_up, plain_down, grpc_up, grpc_down, http_up, http_down] = seen.map(median);
    let watch = Watch::start(service);
    let several = (0..AT_ONCE).map(|n| {
        let (it, bytes) = (&it, content(size / 4, 2000 + n));
        async move { it.upload_grpc(&bytes).await }
    });
    try_join_all(several).await?;
    let several_mb = watch.most()? - rest_mb;

    report.limit("plain_upload_mib_per_s", plain_up);
    report.limit("plain_download_mib_per_s", plain_down);
    report.figure("upload_grpc_mib_per_s", grpc_up);
    report.figure("upload_http_mib_per_s", http_up);
    report.figure("download_grpc_mib_per_s", grpc_down);
    report.figure("download_http_mib_per_s", http_down);
    report.figure("upload_share", grpc_up.min(http_up) / plain_up);
    report.figure("download_share", grpc_down.min(http_down) / plain_down);
    report.figure("resident_at_rest_mb", rest_mb);
    report.figure("memory_over_rest_mb", one_mb);
    report.figure(format!("memory_over_rest_mb_at_{AT_ONCE}"), several_mb);
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "a file has no 2^52 bytes")]
fn rate(size: usize, began: Instant) -> f64 {
    size as f64 / MIB as f64 / began.elapsed().as_secs_f64()
}

/// Text that no other round has.
fn content(size: usize, round: usize) -> Bytes {
    let mut bytes = vec![b'.'; size];
    for (place, block) in bytes.chunks_mut(64).enumerate() {
        let mark = format!("{round} {place}\n");
        if let Some(head) = block.get_mut(..mark.len()) {
            head.copy_from_slice(mark.as_bytes());
        }
    }
    bytes.into()
}

/// What copying and hashing takes without anything else.
fn plain(bytes: &Bytes, file: Option<PathBuf>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let sent = bytes.clone();
    let sender = thread::spawn(move || TcpStream::connect(address)?.write_all(&sent));
    let (mut stream, _) = listener.accept()?;
    let mut file = file.map(File::create).transpose()?;
    let (mut hasher, mut block) = (Sha256::new(), vec![0; SOCKET_BYTES]);
    loop {
        let read = stream.read(&mut block)?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        if let Some(file) = &mut file {
            file.write_all(&block[..read])?;
        }
    }
    if let Some(file) = file {
        file.sync_all()?;
    }
    std::hint::black_box(hasher.finalize());
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    Ok(())
}

/// A user with a studio.
struct Client {
    remote: Remote,
    url: Url,
    studio: String,
}

impl Client {
    async fn sign_up(url: Url) -> Result<Self> {
        let remote = Remote::new(&Gateway::at(url.clone()), None)?;
        let register = RegisterRequest {
            email: format!("{}@example.com", Uuid::now_v7().simple()),
            password: Uuid::now_v7().to_string(),
            full_name: "Bench".into(),
        };
        let session = remote.auth().register(remote.request(register)).await?.into_inner();
        let remote = remote.signed_in(session.access_token);
        let company = Company {
            name: "Transfers".into(),
            industry_type: IndustryType::Other.into(),
            contact_email: "office@example.com".into(),
            headquarters_address: "1 Pier Road, Harbour Town".into(),
            ..Company::default()
        };
        let request = CreateCompanyRequest {
            company: Some(company),
            request_id: String::new(),
        };
        let company = remote.companies().create_company(remote.request(request)).await?;
        let studio = Studio {
            company_id: company.into_inner().id,
            name: "Transfers".into(),
            business_area: BusinessArea::Other.into(),
            ..Studio::default()
        };
        let request = CreateStudioRequest {
            studio: Some(studio),
            request_id: String::new(),
        };
        let studio = remote.studios().create_studio(remote.request(request)).await?;
        Ok(Self {
            studio: studio.into_inner().id,
            remote,
            url,
        })
    }

    fn new_file(&self, size: usize) -> Result<NewFile> {
        Ok(NewFile {
            studio_id: self.studio.clone(),
            name: "bench.txt".into(),
            mime_type: "text/plain".into(),
            size_bytes: i64::try_from(size)?,
            ..NewFile::default()
        })
    }

    async fn upload_grpc(&self, bytes: &Bytes) -> Result<String> {
        let first = UploadFileRequest {
            file: Some(self.new_file(bytes.len())?),
            data: Bytes::new(),
        };
        let rest = stream::unfold(bytes.clone(), |mut left| async move {
            let data = left.split_to(MESSAGE_BYTES.min(left.len()));
            (!data.is_empty()).then_some((UploadFileRequest { file: None, data }, left))
        });
        let messages = futures::StreamExt::chain(stream::iter([first]), rest);
        let request = self.remote.stream_request(messages);
        let file = self.remote.files().upload_file(request).await?;
        Ok(file.into_inner().id)
    }

    async fn download_grpc(&self, id: &str) -> Result<usize> {
        let request = DownloadFileRequest {
            id: id.to_owned(),
            ..DownloadFileRequest::default()
        };
        let answer = self
            .remote
            .files()
            .download_file(self.remote.stream_request(request))
            .await?;
        let (mut messages, mut hasher, mut size) = (answer.into_inner(), Sha256::new(), 0);
        while let Some(message) = messages.message().await? {
            hasher.update(&message.data);
            size += message.data.len();
        }
        std::hint::black_box(hasher.finalize());
        Ok(size)
    }

    async fn begin_upload(&self, size: usize) -> Result<String> {
        let request = CreateUploadRequest {
            file: Some(self.new_file(size)?),
        };
        let upload = self.remote.files().create_upload(self.remote.request(request)).await?;
        Ok(upload.into_inner().url_path)
    }

    async fn download_url(&self, id: &str) -> Result<String> {
        let request = CreateDownloadUrlRequest {
            id: id.to_owned(),
            ..CreateDownloadUrlRequest::default()
        };
        let url = self
            .remote
            .files()
            .create_download_url(self.remote.request(request))
            .await?;
        Ok(url.into_inner().url_path)
    }
}

/// HTTP/1.1 as it is on the wire, so that the driver costs next to nothing.
fn connect(gateway: &Url) -> Result<TcpStream> {
    let host = gateway.host_str().context("the gateway has a host")?;
    let port = gateway.port_or_known_default().context("the gateway has a port")?;
    Ok(TcpStream::connect((host, port))?)
}

fn upload_http(gateway: &Url, path: &str, bytes: &[u8]) -> Result<()> {
    let mut stream = connect(gateway)?;
    let length = bytes.len();
    write!(
        stream,
        "PATCH {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ntus-resumable: 1.0.0\r\nupload-offset: 0\r\n\
         content-type: application/offset+octet-stream\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(bytes)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 204") {
        bail!("an upload by HTTP was answered {answer}");
    }
    Ok(())
}

fn download_http(gateway: &Url, path: &str) -> Result<usize> {
    let mut stream = connect(gateway)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    )?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("a download by HTTP was answered {}", String::from_utf8_lossy(&head));
    }
    let (mut hasher, mut block, mut size) = (Sha256::new(), vec![0; SOCKET_BYTES], 0);
    loop {
        let read = stream.read(&mut block)?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        size += read;
    }
    std::hint::black_box(hasher.finalize());
    Ok(size)
}

/// Looks at a process's memory while something goes on.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<f64>>,
}

impl Watch {
    fn start(process: u32) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let thread = thread::spawn(move || {
            let mut most = 0.0_f64;
            while !end.load(Ordering::Relaxed) {
                most = most.max(cpu::resident_mb(process)?);
                thread::sleep(Duration::from_millis(10));
            }
            Ok(most)
        });
        Self { ended, thread }
    }

    fn most(self) -> Result<f64> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

//! A wire to PostgreSQL that a test can cut: it passes everything on, notes what is executed, and is cut where the test says.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use url::Url;

/// Where a wire is cut, at the next statement of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the statement reaches the server.
    Statement,
    /// After the server has done it and before its answer arrives.
    Answer,
    /// As soon as the server has it: it works on, for nobody.
    Work,
}

/// The wire.
#[derive(Debug, Clone)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// Statements that begin with this are cut and counted.
    kind: &'static str,
    executed: Mutex<Vec<String>>,
    cut: Mutex<Option<Cut>>,
}

impl Wire {
    /// A wire to where the URL leads; `kind` is how the statements begin that are to be cut.
    pub async fn to(url: &SecretString, kind: &'static str) -> Self {
        let url = Url::parse(url.expose_secret()).expect("a URL");
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, url.port().expect("the cluster has a port")));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server,
            kind,
            executed: Mutex::default(),
            cut: Mutex::default(),
        });
        tokio::spawn(serve(listener, shared.clone()));
        Self { address, shared }
    }

    /// The URL that leads over the wire.
    pub fn url(&self, url: &SecretString) -> SecretString {
        let mut url = Url::parse(url.expose_secret()).expect("a URL");
        url.set_host(Some("127.0.0.1")).expect("it has a host");
        url.set_port(Some(self.address.port())).expect("it has a port");
        String::from(url).into()
    }

    /// Is cut at the next statement.
    pub fn cut(&self, cut: Cut) {
        *self.shared.cut.lock().expect("no panic") = Some(cut);
    }

    /// What was executed since it was asked last.
    pub fn executed(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.executed.lock().expect("no panic"))
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let _over = pass(client, &shared).await;
        });
    }
}

async fn pass(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(shared.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let cut = Mutex::new(None);
    tokio::select! {
        over = questions(from_client, to_server, shared, &cut) => over,
        over = answers(from_server, to_client, &cut) => over,
    }
}

/// Passes on what the client sends, message by message; ends where the wire is cut.
async fn questions(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    cut: &Mutex<Option<Cut>>,
) -> io::Result<()> {
    const ENCRYPTION_REQUEST: u32 = 80_877_103;
    let mut encryption_asked = true;
    while encryption_asked {
        let body = message(&mut client, &mut Vec::new()).await?;
        encryption_asked = body.get(4..8) == Some(&ENCRYPTION_REQUEST.to_be_bytes());
        server.write_all(&body).await?;
    }
    let mut prepared: HashMap<Vec<u8>, String> = HashMap::new();
    loop {
        let kind = client.read_u8().await?;
        let body = message(&mut client, &mut vec![kind]).await?;
        let texts: Vec<_> = body[5..].split(|byte| *byte == 0).take(2).map(<[u8]>::to_vec).collect();
        match kind {
            b'P' => {
                prepared.insert(texts[0].clone(), String::from_utf8_lossy(&texts[1]).into_owned());
            }
            b'B' => {
                let sql = prepared.get(&texts[1]).cloned().unwrap_or_default();
                let armed = sql
                    .starts_with(shared.kind)
                    .then(|| shared.cut.lock().expect("no panic").take());
                shared.executed.lock().expect("no panic").push(sql);
                *cut.lock().expect("no panic") = armed.flatten();
            }
            _ => {}
        }
        let here = *cut.lock().expect("no panic");
        if here == Some(Cut::Statement) {
            return Ok(());
        }
        server.write_all(&body).await?;
        if here == Some(Cut::Work) && kind == b'S' {
            return Ok(());
        }
    }
}

/// A message with its length, after what was read of it.
async fn message(client: &mut OwnedReadHalf, read: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut message = std::mem::take(read);
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    client.read_exact(&mut message[start..]).await?;
    Ok(message)
}

/// Passes on what the server sends; where the answer is to be cut off, waits for its end.
async fn answers(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, cut: &Mutex<Option<Cut>>) -> io::Result<()> {
    const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];
    let mut bytes = vec![0; 1 << 16];
    let mut last = Vec::new();
    loop {
        let read = server.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        let answered = *cut.lock().expect("no panic") == Some(Cut::Answer);
        if !answered {
            client.write_all(&bytes[..read]).await?;
            continue;
        }
        last.extend(&bytes[..read]);
        if last.len() > READY.len() && last[..last.len() - 1].ends_with(&READY) {
            return Ok(());
        }
    }
}

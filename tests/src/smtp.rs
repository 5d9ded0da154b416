//! A mail server that says what it is told to, and keeps what it takes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A running server.
pub struct Smtp {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    taken: watch::Receiver<Vec<String>>,
}

struct State {
    /// What it answers to the next recipients; afterwards it takes all.
    refusals: Mutex<Vec<&'static str>>,
    taken: watch::Sender<Vec<String>>,
}

impl Smtp {
    /// Starts one that answers the first recipients like this.
    pub async fn start(refusals: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (sender, taken) = watch::channel(Vec::new());
        let state = Arc::new(State {
            refusals: Mutex::new(refusals.iter().rev().copied().collect()),
            taken: sender,
        });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state, taken }
    }

    /// The first mail that fits, once it was taken.
    pub async fn mail(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let taken = self.taken.wait_for(|mails| mails.iter().any(|it| fits(it))).await;
        let taken = taken.expect("the server lives");
        taken.iter().find(|it| fits(it)).expect("it was waited for").clone()
    }

    /// How many refusals it has not given yet.
    pub fn refusals_left(&self) -> usize {
        self.state.refusals.lock().expect("nobody panics").len()
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            "EHLO" => "250-test\r\n250 8BITMIME",
            "RCPT" => {
                let refusal = state.refusals.lock().expect("nobody panics").pop();
                refusal.unwrap_or("250 yes")
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut text).await? == 0 {
                        return Ok(());
                    }
                }
                state.taken.send_modify(|it| it.push(text));
                "250 taken"
            }
            "QUIT" => {
                return stream.write_all(b"221 bye\r\n").await;
            }
            _ => "250 yes",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

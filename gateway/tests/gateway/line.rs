//! The line between the gateway and a service, which a test cuts.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use url::Url;

/// A relay that is there before it leads anywhere.
pub(crate) struct Line {
    address: SocketAddr,
    leads_to: watch::Sender<Option<SocketAddr>>,
    cuts: watch::Sender<()>,
}

impl Line {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leads_to, cuts) = (watch::Sender::new(None), watch::Sender::new(()));
        let (service, cut) = (leads_to.subscribe(), cuts.subscribe());
        #[expect(clippy::disallowed_methods, reason = "it stands for a network")]
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let service: Option<SocketAddr> = *service.borrow();
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut caller = caller;
                    let mut service = TcpStream::connect(service.unwrap()).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut caller, &mut service) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            leads_to,
            cuts,
        }
    }

    /// Goes between whoever calls this URL and the service there.
    pub(crate) fn stand_before(&self, url: &mut Url) {
        let service = url.socket_addrs(|| None).unwrap()[0];
        self.leads_to.send_replace(Some(service));
        *url = format!("http://{}", self.address).parse().unwrap();
    }

    /// Closes all connections that there are.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

//! What a replica's own limits cost every request.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use criterion::Criterion;
use http::{Extensions, HeaderMap};
use service_kit::{
    clock::SystemClock,
    ids::UserId,
    limits::{CLIENT_ADDRESS, ClientAddress, Limits, LimitsConfig, TrustedPeers},
};
use tonic::transport::server::TcpConnectInfo;

const USERS: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    let generous = "1000000/s".parse().expect("a rate");
    let limits = Limits::new(
        LimitsConfig {
            user: generous,
            address: generous,
            trusted_peers: TrustedPeers::loopback(),
        },
        Arc::new(SystemClock),
    );
    let users: Vec<UserId> = (0..USERS).map(|_| UserId::generate()).collect();
    let mut group = criterion.benchmark_group("a replica's limits");
    let mut next = 0;
    group.bench_function("user, of 10,000", |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % USERS;
            limits.user(black_box(users[next]))
        });
    });
    let (mut extensions, mut headers) = (Extensions::new(), HeaderMap::new());
    extensions.insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: Some((Ipv4Addr::LOCALHOST, 9).into()),
    });
    let address = ClientAddress::from(IpAddr::from([192, 0, 2, 7]));
    headers.insert(CLIENT_ADDRESS, address.header());
    group.bench_function("address, told by a gateway", |bencher| {
        bencher.iter(|| {
            let address = limits.client_address(black_box(&extensions), black_box(&headers));
            limits.address(address.expect("the gateway is trusted"))
        });
    });
    group.finish();
    criterion.final_summary();
}

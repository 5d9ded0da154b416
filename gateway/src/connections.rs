//! How many connections there may be: in all, and from one address, so that no one caller takes them all.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MOST: u32 = 16_384;

/// The places for connections.
#[derive(Debug)]
pub(crate) struct Connections {
    all: Arc<Semaphore>,
    per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    /// Places of which one address may take so many.
    pub(crate) fn new(per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(MOST as usize)),
            per_address,
            taken: Mutex::default(),
        })
    }

    /// Waits for a place to be free.
    pub(crate) async fn free(&self) -> OwnedSemaphorePermit {
        let permit = self.all.clone().acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Gives a free place to an address, if that has not too many already, or may have any number.
    pub(crate) fn take(self: &Arc<Self>, free: OwnedSemaphorePermit, address: IpAddr, any: bool) -> Option<Place> {
        let caller = caller(address);
        let mut taken = self.taken();
        let count = taken.entry(caller).or_default();
        if *count >= self.per_address && !any {
            return None;
        }
        *count += 1;
        Some(Place {
            connections: self.clone(),
            caller,
            _held: free,
        })
    }

    /// Waits until every place is free.
    pub(crate) async fn all_gone(&self) {
        let all = self.all.acquire_many(MOST).await;
        drop(all.expect("the semaphore is never closed"));
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    caller: IpAddr,
    _held: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.connections.taken().entry(self.caller) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whom an address stands for: who has an IPv6 address has the 2^64 of its network.
fn caller(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_places_and_no_more_until_one_is_free_again() {
        let connections = Connections::new(2);
        let take = async |address: &str| connections.take(connections.free().await, address.parse().unwrap(), false);
        let first = take("192.0.2.1").await.unwrap();
        let _second = take("::ffff:192.0.2.1").await.unwrap();
        assert!(take("192.0.2.1").await.is_none());
        let _other = take("192.0.2.2").await.unwrap();
        let any = connections.take(connections.free().await, "192.0.2.1".parse().unwrap(), true);
        drop(any.expect("a proxy has no limit"));
        drop(first);
        assert!(take("192.0.2.1").await.is_some());
    }

    #[tokio::test]
    async fn the_addresses_of_an_ipv6_network_count_together_and_are_forgotten_when_gone() {
        let connections = Connections::new(1);
        let take = async |address: &str| connections.take(connections.free().await, address.parse().unwrap(), false);
        let first = take("2001:db8:0:1::1").await.unwrap();
        assert!(take("2001:db8:0:1:ffff::2").await.is_none());
        assert!(take("2001:db8:0:2::1").await.is_some());
        drop(first);
        assert!(connections.taken().is_empty());
        connections.all_gone().await;
    }
}

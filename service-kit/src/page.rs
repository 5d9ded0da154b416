//! Keyset paging: a page is what comes after a cursor, and the cursor travels as an opaque token.
//!
//! A token is authenticated and bound to the method and its filter, so it is good only for going on with the same list.
//! It authorises nothing: the next page is read with the claims of whoever presents it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    error::{Result, Violations},
    keys::KeyRing,
};

const PURPOSE: &str = "page-token";
const DEFAULT_SIZE: i32 = 50;
const LARGEST_SIZE: i32 = 1000;

/// The part of a list that a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<C> {
    /// At most this many items.
    pub size: i64,
    /// Where the page before ended; none for the first one.
    pub after: Option<C>,
}

impl<C: Serialize + DeserializeOwned> Page<C> {
    /// Reads `page_size` (0 means 50, more than 1000 means 1000) and `page_token`. `filter` is everything that
    /// selects and orders the list.
    ///
    /// # Errors
    /// `Invalid` on `page_size` where it is negative, on `page_token` where it is not one of this list's.
    pub fn parse(
        keys: &KeyRing,
        method: &'static str,
        filter: &impl Serialize,
        page_size: i32,
        page_token: &str,
    ) -> Result<Self> {
        let mut violations = Violations::new();
        let size = match page_size {
            0 => DEFAULT_SIZE,
            size => size.min(LARGEST_SIZE),
        };
        if size < 0 {
            violations.add("page_size", "must not be negative");
        }
        let mut after = None;
        if !page_token.is_empty() {
            after = open(keys, method, filter, page_token);
            if after.is_none() {
                violations.add("page_token", "must be the next_page_token of a page of the same list");
            }
        }
        violations.finish()?;
        Ok(Self {
            size: size.into(),
            after,
        })
    }

    /// How many rows to query: one more than the page has, which tells whether another follows.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }

    /// The page's items from the rows of a query by [`limit`](Self::limit), and the token of the next page: empty on the
    /// last one.
    pub fn finish<T>(
        &self,
        keys: &KeyRing,
        method: &'static str,
        filter: &impl Serialize,
        mut rows: Vec<T>,
        cursor: impl Fn(&T) -> C,
    ) -> (Vec<T>, String) {
        let size = usize::try_from(self.size).expect("a size is between 1 and 1000");
        if rows.len() <= size {
            return (rows, String::new());
        }
        rows.truncate(size);
        let token = rows
            .last()
            .map(|last| Self::token(keys, method, filter, &cursor(last)))
            .unwrap_or_default();
        (rows, token)
    }

    /// The token of the page after this place, for a list that does not end where its rows do.
    pub fn token(keys: &KeyRing, method: &'static str, filter: &impl Serialize, last: &C) -> String {
        seal(keys, method, filter, last)
    }
}

fn seal<C: Serialize>(keys: &KeyRing, method: &str, filter: &impl Serialize, cursor: &C) -> String {
    let payload = json(cursor);
    let mac = keys.mac(PURPOSE, &bound(method, filter, &payload));
    format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(mac))
}

fn open<C: DeserializeOwned>(keys: &KeyRing, method: &str, filter: &impl Serialize, token: &str) -> Option<C> {
    let (payload, mac) = token.split_once('.')?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    if !keys.verify_mac(PURPOSE, &bound(method, filter, &payload), &mac) {
        return None;
    }
    serde_json::from_slice(&payload).ok()
}

/// What the token's code covers. Hashes have a fixed length, so no two combinations look the same.
fn bound(method: &str, filter: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(64 + payload.len());
    bound.extend_from_slice(&Sha256::digest(method));
    bound.extend_from_slice(&Sha256::digest(json(filter)));
    bound.extend_from_slice(payload);
    bound
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("cursors and filters are plain data with string keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const LIST: &str = "/studios.core.v1.StudioService/ListStudios";

    fn refused(result: Result<Page<u32>>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_size_has_a_default_and_a_bound() {
        let keys = KeyRing::generate();
        let size = |asked| Page::<u32>::parse(&keys, LIST, &(), asked, "").map(|it| it.size);
        assert_eq!(size(0).unwrap(), 50);
        assert_eq!(size(7).unwrap(), 7);
        assert_eq!(size(i32::MAX).unwrap(), 1000);
        assert_eq!(
            refused(Page::parse(&keys, LIST, &(), -1, "x")),
            ["page_size", "page_token"]
        );
    }

    #[test]
    fn pages_follow_each_other_to_the_end_of_the_list() {
        let keys = KeyRing::generate();
        let all: Vec<u32> = (1..=7).collect();
        let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = Page::<u32>::parse(&keys, LIST, &"filter", 3, &token).unwrap();
            let rows = all
                .iter()
                .copied()
                .filter(|it| page.after.is_none_or(|after| *it > after))
                .take(usize::try_from(page.limit()).unwrap())
                .collect();
            let (items, next) = page.finish(&keys, LIST, &"filter", rows, |it| *it);
            seen.extend(items);
            pages += 1;
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!((seen, pages), (all, 3));
    }

    #[test]
    fn a_token_is_good_for_its_own_list_alone() {
        let keys = KeyRing::generate();
        let token = seal(&keys, LIST, &"filter", &1_u32);
        let parse = |keys: &KeyRing, method, filter: &str, token: &str| Page::parse(keys, method, &filter, 0, token);
        assert_eq!(parse(&keys, LIST, "filter", &token).unwrap().after, Some(1));
        let (payload, mac) = token.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode("2");
        for result in [
            parse(&keys, "/other", "filter", &token),
            parse(&keys, LIST, "other", &token),
            parse(&KeyRing::generate(), LIST, "filter", &token),
            parse(&keys, LIST, "filter", payload),
            parse(&keys, LIST, "filter", &format!("{other}.{mac}")),
            parse(&keys, LIST, "filter", &format!("{payload}.")),
            parse(&keys, LIST, "filter", "€"),
        ] {
            assert_eq!(refused(result), ["page_token"]);
        }
    }
}

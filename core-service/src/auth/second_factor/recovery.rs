//! Recovery codes: ten of 50 bits each, for the user; a keyed hash of each, bound to him, for the database.

use service_kit::{ids::UserId, keys::KeyRing};

use super::totp::base32;

/// What the key of the hash is for, in the key ring's terms.
const PURPOSE: &str = "core.recovery-codes";

const NUMBER: usize = 10;
const HALF: usize = 5;

/// New codes, like `mzxw6-ytboi`.
pub(super) fn generate() -> Vec<String> {
    (0..NUMBER)
        .map(|_| {
            let text = base32(&rand::random::<[u8; 8]>()).to_ascii_lowercase();
            format!("{}-{}", &text[..HALF], &text[HALF..2 * HALF])
        })
        .collect()
}

/// What is stored of a code.
pub(super) fn hash(keys: &KeyRing, user: UserId, code: &str) -> Vec<u8> {
    keys.mac(PURPOSE, &bound(user, code))
}

/// The stored hash that a code was made of, whichever key it was made with.
pub(super) fn find<'h>(keys: &KeyRing, user: UserId, code: &str, known: &'h [Vec<u8>]) -> Option<&'h [u8]> {
    let bound = bound(user, code);
    let found = known.iter().find(|it| keys.verify_mac(PURPOSE, &bound, it));
    found.map(Vec::as_slice)
}

/// A code as it is meant, however it was typed, and whose it is.
fn bound(user: UserId, code: &str) -> Vec<u8> {
    let meant: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    [user.as_uuid().as_bytes(), meant.to_ascii_lowercase().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_however_it_is_typed_and_for_its_user_alone() {
        let (keys, user) = (KeyRing::generate(), UserId::generate());
        let codes = generate();
        assert_eq!(codes.len(), NUMBER);
        assert!(codes.iter().all(|it| it.len() == 2 * HALF + 1), "{codes:?}");
        let known: Vec<_> = codes.iter().map(|it| hash(&keys, user, it)).collect();
        let typed = codes[3].to_uppercase().replace('-', " ");
        assert_eq!(find(&keys, user, &typed, &known), Some(&known[3][..]));
        assert_eq!(find(&keys, UserId::generate(), &codes[3], &known), None);
        assert_eq!(find(&keys, user, "mzxw6-ytboi", &known), None);
    }
}

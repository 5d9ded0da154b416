//! An authenticator app.

use aws_lc_rs::hmac;

/// The code of a secret in base32, as an app shows it so many steps of 30 s after a time.
pub fn code(secret: &str, unix_seconds: i64, steps: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &decoded(secret));
    let tag = hmac::sign(&key, &(unix_seconds / 30 + steps).to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 15);
    let word = u32::from_be_bytes(tag[offset..offset + 4].try_into().expect("four bytes"));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

fn decoded(secret: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in secret.bytes() {
        let value = if letter.is_ascii_digit() {
            letter - b'2' + 26
        } else {
            letter - b'A'
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 255).expect("eight bits"));
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

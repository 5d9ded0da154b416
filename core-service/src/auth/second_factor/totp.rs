//! Time-based one-time passwords: RFC 6238 over RFC 4226, with HMAC-SHA-1, six digits and steps of 30 s, which is what every
//! authenticator app does.

use std::fmt::Write as _;

use aws_lc_rs::{constant_time, hmac};
use url::Url;
use zeroize::Zeroizing;

const STEP_SECONDS: i64 = 30;
/// How many steps a clock may be off, either way.
const SKEW: i64 = 1;
const DIGITS: usize = 6;
/// RFC 4226 recommends 160 bits.
const SECRET_BYTES: usize = 20;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What the app and we share.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(super) fn generate() -> Self {
        Self(Zeroizing::new(rand::random::<[u8; SECRET_BYTES]>().to_vec()))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is typed (RFC 4648, without padding).
    pub(super) fn base32(&self) -> String {
        base32(&self.0)
    }

    /// As a QR code says it: the key URI format of authenticator apps.
    pub(super) fn uri(&self, issuer: &str, account: &str) -> String {
        let mut uri = Url::parse("otpauth://totp/").expect("it is a URL");
        uri.set_path(&format!("{}:{account}", issuer.replace(':', " ")));
        uri.query_pairs_mut()
            .append_pair("secret", &self.base32())
            .append_pair("issuer", issuer);
        uri.into()
    }

    /// The step that a code belongs to, if it is one of now, and later than the last that was used.
    pub(super) fn check(&self, code: &str, unix_seconds: i64, last_step: i64) -> Option<i64> {
        let given: String = code.split_whitespace().collect();
        let now = unix_seconds.div_euclid(STEP_SECONDS);
        (now - SKEW..=now + SKEW).filter(|step| *step > last_step).find(|step| {
            constant_time::verify_slices_are_equal(self.code(*step, DIGITS).as_bytes(), given.as_bytes()).is_ok()
        })
    }

    /// The code of a step: HOTP of its number.
    fn code(&self, step: i64, digits: usize) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag[tag.len() - 1] & 0xf);
        let word: [u8; 4] = tag[offset..offset + 4]
            .try_into()
            .expect("20 bytes have it at every offset");
        let number = u32::from_be_bytes(word) & 0x7fff_ffff;
        let modulus = 10_u32.pow(u32::try_from(digits).expect("it is small"));
        let mut code = String::new();
        // A String takes everything.
        let _ = write!(code, "{:0digits$}", number % modulus);
        code
    }
}

/// Base32 without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(BASE32[((bits >> held) & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        text.push(char::from(BASE32[((bits << (5 - held)) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_rfc() -> Secret {
        Secret::from_bytes(b"12345678901234567890")
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (time, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(of_the_rfc().code(time / STEP_SECONDS, 8), code);
        }
    }

    #[test]
    fn codes_are_those_of_rfc_4226() {
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
        ];
        for (step, code) in (0..).zip(codes) {
            assert_eq!(of_the_rfc().code(step, DIGITS), code);
        }
    }

    #[test]
    fn a_code_is_good_for_a_step_either_way_and_once() {
        let secret = of_the_rfc();
        // 287082 is that of the step from 30 s on.
        for (time, found) in [(0, Some(1)), (59, Some(1)), (89, Some(1)), (90, None)] {
            assert_eq!(secret.check("287 082", time, 0), found, "{time}");
        }
        assert_eq!(secret.check("287082", 59, 1), None);
        for wrong in ["", "287083", "28708", "2870822", "abcdef"] {
            assert_eq!(secret.check(wrong, 59, 0), None, "{wrong}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn an_app_is_told_whose_codes_they_are() {
        let uri = of_the_rfc().uri("Studios", "ada@example.com");
        assert_eq!(
            uri,
            "otpauth://totp/Studios:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Studios"
        );
    }
}

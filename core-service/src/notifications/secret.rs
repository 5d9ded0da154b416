//! A webhook's secret: 256 random bits, written as Standard Webhooks writes them, and sealed for the channel that they are of.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use service_kit::{ids::ChannelId, keys::KeyRing};
use zeroize::Zeroizing;

/// What it is sealed for, in the key ring's terms.
const PURPOSE: &str = "core.notification_channels";
const PREFIX: &str = "whsec_";
const BYTES: usize = 32;
/// How much of it is shown to tell it from others, in characters.
const HINT: usize = 4;

/// A secret; `Debug` does not show it.
pub(super) struct Secret(Zeroizing<[u8; BYTES]>);

impl Secret {
    pub(super) fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// As its owner is told it.
    pub(super) fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(*self.0))
    }

    pub(super) fn hint(&self) -> String {
        let text = self.text();
        text[text.len() - HINT..].to_owned()
    }

    pub(super) fn seal(&self, keys: &KeyRing, channel: ChannelId) -> Vec<u8> {
        keys.seal(PURPOSE, channel.as_uuid().as_bytes(), &*self.0)
    }

    /// What was sealed for this channel, if the key ring still opens it.
    pub(super) fn open(keys: &KeyRing, channel: ChannelId, sealed: &[u8]) -> Option<Self> {
        let opened = keys.open(PURPOSE, channel.as_uuid().as_bytes(), sealed).ok()?;
        let bytes: [u8; BYTES] = opened.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// The signature of what is sent, as a receiver compares it.
    ///
    /// Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>, "Symmetric".
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0));
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_specifications_example() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut bytes = [0; BYTES];
        bytes[..key.len()].copy_from_slice(&key);
        // HMAC fills a key up with zeros, so that the longer one is the same key.
        let secret = Secret(Zeroizing::new(bytes));
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_sealed_secret_opens_for_its_own_channel_alone_and_is_in_no_debug_output() {
        let (keys, channel) = (KeyRing::generate(), ChannelId::generate());
        let secret = Secret::generate();
        let sealed = secret.seal(&keys, channel);
        assert_eq!(
            Secret::open(&keys, channel, &sealed).map(|it| it.text()),
            Some(secret.text())
        );
        assert!(Secret::open(&keys, ChannelId::generate(), &sealed).is_none());
        assert!(!format!("{secret:?}").contains(&secret.text()[PREFIX.len()..]));
    }
}

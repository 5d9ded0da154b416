//! Bytes that have come and are not in a part yet, as they came: none is copied.

use std::mem;

use bytes::Bytes;

/// Bytes in their order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<Bytes>,
    length: usize,
}

impl Pending {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.bytes.push(bytes);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Takes the first so many bytes, or all where there are fewer.
    pub(super) fn cut(&mut self, length: usize) -> Vec<Bytes> {
        let mut wanted = length.min(self.length);
        self.length -= wanted;
        let mut part = Vec::new();
        let mut rest = mem::take(&mut self.bytes).into_iter();
        while wanted > 0
            && let Some(mut bytes) = rest.next()
        {
            if bytes.len() > wanted {
                part.push(bytes.split_to(wanted));
                self.bytes.push(bytes);
                break;
            }
            wanted -= bytes.len();
            part.push(bytes);
        }
        self.bytes.extend(rest);
        part
    }

    /// A copy of all.
    pub(super) fn copied(&self) -> Vec<u8> {
        self.bytes.concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_have_their_length_and_all_bytes_come_out_in_order(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            length in 1_usize..60,
        ) {
            let mut pending = Pending::default();
            let (mut seen, mut expected) = (Vec::new(), Vec::new());
            for block in blocks {
                expected.extend_from_slice(&block);
                pending.push(block.into());
                while pending.len() >= length {
                    let part = pending.cut(length).concat();
                    prop_assert_eq!(part.len(), length);
                    seen.extend(part);
                }
                prop_assert_eq!(pending.copied().len(), pending.len());
            }
            seen.extend(pending.cut(usize::MAX).concat());
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(pending.len(), 0);
        }
    }
}

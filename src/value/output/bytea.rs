//! Bytes as text: `bytea` in hex or escaped, and `uuid`.

use super::style::ByteaOutput;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes in the session's style.
pub(super) fn put_bytea(out: &mut Vec<u8>, bytes: &[u8], style: ByteaOutput) {
    match style {
        ByteaOutput::Hex => {
            out.extend_from_slice(b"\\x");
            out.extend(bytes.iter().flat_map(|byte| hex(*byte)));
        }
        ByteaOutput::Escape => bytes.iter().for_each(|byte| put_escaped(out, *byte)),
    }
}

fn put_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\\\"),
        b' '..=b'~' => out.push(byte),
        _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + ((byte >> 3) & 7), b'0' + (byte & 7)]),
    }
}

/// Appends sixteen bytes as `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`.
pub(super) fn put_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&hex(*byte));
    }
}

#[inline]
fn hex(byte: u8) -> [u8; 2] {
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_in_both_styles() {
        for (style, text) in [(ByteaOutput::Hex, r"\x00ff5c41"), (ByteaOutput::Escape, r"\000\377\\A")] {
            let mut out = Vec::new();
            put_bytea(&mut out, &[0, 255, b'\\', b'A'], style);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}

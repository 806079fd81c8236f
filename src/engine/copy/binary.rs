//! Tuples: the rows of a COPY in binary, behind the header of its format.

use std::ops::Range;

use crate::error::{Error, Result};

/// What a binary COPY begins with; flags and the length of an extension follow.
pub const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// Flags of which a reader that does not know them must refuse the data.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
const OIDS_FLAG: u32 = 1 << 16;

/// What stands at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A tuple that ends there; where its values lie is in the buffer.
    Tuple(usize),
    /// The trailer.
    End,
    /// Nothing whole yet.
    More,
}

/// Passes over the header; returns its length, or none where it is not whole yet.
///
/// # Errors
/// [`Error::BadCopyFile`] for another header.
pub(super) fn header(input: &[u8]) -> Result<Option<usize>> {
    let bad = |message: &str| Err(Error::BadCopyFile(message.to_owned()));
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        return bad("COPY file signature not recognized");
    }
    let (Some(flags), Some(length)) = (number(input, SIGNATURE.len()), number(input, SIGNATURE.len() + 4))
    else {
        return Ok(None);
    };
    let flags = flags as u32;
    if flags & OIDS_FLAG != 0 {
        return bad("invalid COPY file header (WITH OIDS)");
    }
    if flags & CRITICAL_FLAGS != 0 {
        return bad("unrecognized critical flags in COPY file header");
    }
    let Ok(length) = usize::try_from(length) else {
        return bad("invalid COPY file header (missing length)");
    };
    let whole = HEADER_BYTES + length;
    Ok((input.len() >= whole).then_some(whole))
}

/// Finds the values of the tuple at the start of `input`: where each lies, none for null.
///
/// # Errors
/// [`Error::BadCopyFile`] for a tuple of another width, or a length that none can have.
pub(super) fn tuple(input: &[u8], columns: usize, values: &mut Vec<Option<Range<usize>>>) -> Result<Found> {
    values.clear();
    let Some(count) = input.first_chunk::<2>() else { return Ok(Found::More) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Found::End);
    }
    if usize::try_from(count) != Ok(columns) {
        let message = format!("row field count is {count}, expected {columns}");
        return Err(Error::BadCopyFile(message));
    }
    let mut at = 2;
    for _ in 0..columns {
        let Some(length) = number(input, at) else { return Ok(Found::More) };
        at += 4;
        values.push(match usize::try_from(length) {
            Ok(length) => {
                at += length;
                Some(at - length..at)
            }
            Err(_) if length == -1 => None,
            Err(_) => return Err(Error::BadCopyFile("invalid field size".to_owned())),
        });
    }
    Ok(if at <= input.len() { Found::Tuple(at) } else { Found::More })
}

fn number(input: &[u8], at: usize) -> Option<i32> {
    input.get(at..at + 4)?.first_chunk().copied().map(i32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_found_when_they_are_whole() {
        let bytes = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff\xff\xff";
        let mut values = Vec::new();
        for end in 0..11 {
            assert_eq!(tuple(&bytes[..end], 2, &mut values).unwrap(), Found::More, "{end}");
        }
        assert_eq!(tuple(bytes, 2, &mut values).unwrap(), Found::Tuple(11));
        assert_eq!(values, [Some(6..7), None]);
        assert_eq!(tuple(&bytes[11..], 2, &mut values).unwrap(), Found::End);
        assert_eq!(tuple(bytes, 3, &mut values).unwrap_err().sqlstate(), "22P04");
        assert_eq!(tuple(b"\0\x01\xff\xff\xff\xfe", 1, &mut values).unwrap_err().sqlstate(), "22P04");
    }

    #[test]
    fn another_header_is_refused() {
        let whole = [SIGNATURE.as_slice(), &[0, 0, 0, 0, 0, 0, 0, 2, 7, 7]].concat();
        for end in 0..whole.len() {
            assert_eq!(header(&whole[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(header(&whole).unwrap(), Some(whole.len()));
        assert!(header(b"PGCOPX").is_err());
        let flagged = [SIGNATURE.as_slice(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert!(header(&flagged).is_err());
    }
}

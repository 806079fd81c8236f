//! Lines of a range: how several readers share one text file.
//!
//! A line belongs to the range in which its first byte lies, so that every line is read once.

use bytes::Bytes;
use datafusion::error::Result;
use futures::StreamExt;
use futures::stream::BoxStream;

/// The lines of a file that begin at `start` or behind it, but before `end`.
///
/// `bytes` begins one byte before `start`, or with the file. It is dropped behind the last line.
pub fn lines_of_range(
    bytes: BoxStream<'static, Result<Bytes>>,
    start: u64,
    end: u64,
) -> BoxStream<'static, Result<Bytes>> {
    let reading = Reading { at: start.saturating_sub(1), end, skipping: start > 0 };
    futures::stream::try_unfold((bytes, Some(reading)), async |(mut bytes, reading)| {
        let Some(mut reading) = reading else { return Ok(None) };
        loop {
            let Some(chunk) = bytes.next().await.transpose()? else { return Ok(None) };
            let (ours, more) = reading.take(&chunk);
            match (ours.is_empty(), more) {
                (true, false) => return Ok(None),
                (true, true) => {}
                (false, _) => return Ok(Some((ours, (bytes, more.then_some(reading))))),
            }
        }
    })
    .boxed()
}

struct Reading {
    /// Offset in the file of the next chunk.
    at: u64,
    end: u64,
    /// The line in which the range begins belongs to the range before.
    skipping: bool,
}

impl Reading {
    /// Cuts what is ours out of the next chunk; says whether there may be more.
    fn take(&mut self, chunk: &Bytes) -> (Bytes, bool) {
        let mut from = 0;
        if self.skipping {
            let Some(line_end) = position(chunk, 0) else {
                self.at += chunk.len() as u64;
                return (Bytes::new(), self.at < self.end);
            };
            self.skipping = false;
            from = line_end + 1;
            if self.at + from as u64 >= self.end {
                return (Bytes::new(), false);
            }
        }
        let offset = self.at;
        self.at += chunk.len() as u64;
        // The last line of ours ends at the first line end that is not before the range's last byte.
        let last = usize::try_from((self.end - 1).saturating_sub(offset)).unwrap_or(usize::MAX);
        match position(chunk, last.max(from)) {
            Some(line_end) => (chunk.slice(from..=line_end), false),
            None => (chunk.slice(from..), true),
        }
    }
}

fn position(chunk: &Bytes, from: usize) -> Option<usize> {
    let rest = chunk.get(from..)?;
    rest.iter().position(|byte| *byte == b'\n').map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    const TEXT: &[u8] = b"one\ntwo\n\nthree and more\nfour";

    async fn lines(start: u64, end: u64, chunk: usize) -> Vec<u8> {
        let from = usize::try_from(start.saturating_sub(1)).unwrap();
        let chunks: Vec<_> = TEXT[from..].chunks(chunk).map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        let stream = lines_of_range(futures::stream::iter(chunks).boxed(), start, end);
        stream.try_collect::<Vec<Bytes>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn every_line_is_read_by_one_range() {
        let length = TEXT.len() as u64;
        for chunk in [1, 2, 5, 100] {
            for cut in 1..length {
                let (one, two) = (lines(0, cut, chunk).await, lines(cut, length, chunk).await);
                let both = [one.clone(), two].concat();
                assert_eq!(both, TEXT, "cut at {cut}, chunks of {chunk}");
                assert!(one.ends_with(b"\n") || one == TEXT, "cut at {cut}");
            }
        }
        assert_eq!(lines(4, 8, 3).await, b"two\n");
        assert_eq!(lines(5, 8, 3).await, b"");
        assert_eq!(lines(10, 12, 100).await, b"");
    }
}

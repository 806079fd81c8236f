//! Sizes in bytes as people write them, and how much memory this machine offers.

use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes, written `1048576`, `64MB`, `1.5GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(pub u64);

/// A limit on memory: bytes, or a share of what the machine or its cgroup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub enum MemoryLimit {
    Bytes(u64),
    Percent(u64),
}

/// A number or a text, as TOML has both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Size {
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl MemoryLimit {
    /// The limit in bytes on this machine.
    pub fn bytes(self) -> usize {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => memory_of_machine() / 100 * percent,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = text[digits.len()..].trim();
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" | "k" => 1_000,
            "mb" | "m" => 1_000_000,
            "gb" | "g" => 1_000_000_000,
            "tb" | "t" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(format!("\"{text}\" is no size; write 64MB or 1.5GiB")),
        };
        let number: f64 =
            digits.parse().map_err(|_| format!("\"{text}\" is no size; write 64MB or 1.5GiB"))?;
        if !(0.0..1e18).contains(&number) {
            return Err(format!("\"{text}\" is out of range"));
        }
        Ok(Self((number * factor as f64) as u64))
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(format!("\"{text}\" is no share; write 1% to 100%")),
            },
            None => Ok(Self::Bytes(text.parse::<Size>()?.0)),
        }
    }
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Written> for MemoryLimit {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self::Bytes(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

/// Bytes of memory of this machine, or of the cgroup that holds this process where that is less.
fn memory_of_machine() -> u64 {
    const FALLBACK: u64 = 4 << 30;
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let cgroup = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .min();
    machine.into_iter().chain(cgroup).min().unwrap_or(FALLBACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!("64MB".parse(), Ok(Size(64_000_000)));
        assert_eq!("1.5GiB".parse(), Ok(Size(1_610_612_736)));
        assert_eq!("60%".parse(), Ok(MemoryLimit::Percent(60)));
        assert!("60 apples".parse::<Size>().is_err());
        assert!("0%".parse::<MemoryLimit>().is_err());
    }
}

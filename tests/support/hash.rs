//! Bodies too large to compare byte for byte: a repeatable pattern, and a hash that does not care into which pieces
//! the bytes were cut.

/// FNV-1a over words of eight bytes: not for enemies, but any lost, doubled, swapped or changed byte shows.
#[derive(Clone, Debug)]
pub struct Hash {
    state: u64,
    word: [u8; 8],
    in_word: usize,
    length: u64,
}

impl Hash {
    pub fn new() -> Self {
        Self { state: 0xcbf2_9ce4_8422_2325, word: [0; 8], in_word: 0, length: 0 }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while self.in_word > 0 || bytes.len() < 8 {
            let Some((&first, rest)) = bytes.split_first() else {
                return;
            };
            self.word[self.in_word] = first;
            self.in_word += 1;
            bytes = rest;
            if self.in_word == 8 {
                self.in_word = 0;
                self.mix(u64::from_le_bytes(self.word));
            }
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.word[..rest.len()].copy_from_slice(rest);
        self.in_word = rest.len();
    }

    fn mix(&mut self, word: u64) {
        self.state = (self.state ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash as text, the length included.
    pub fn finish(&self) -> String {
        let mut last = self.clone();
        last.word[last.in_word..].fill(0);
        last.mix(u64::from_le_bytes(last.word));
        last.mix(self.length);
        format!("{:016x}-{}", last.state, self.length)
    }
}

pub fn hash_of(bytes: &[u8]) -> String {
    let mut hash = Hash::new();
    hash.update(bytes);
    hash.finish()
}

/// `length` bytes that look random, and differently for each `seed`.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn pieces_do_not_matter_but_bytes_do() {
    let bytes = pattern(7, 1000);
    let whole = hash_of(&bytes);
    for size in [1, 3, 8, 9, 64, 999] {
        let mut hash = Hash::new();
        bytes.chunks(size).for_each(|piece| hash.update(piece));
        assert_eq!(hash.finish(), whole, "in pieces of {size}");
    }
    for changed in [0, 499, 999] {
        let mut other = bytes.clone();
        other[changed] ^= 1;
        assert_ne!(hash_of(&other), whole);
    }
    assert_ne!(hash_of(&bytes[..999]), whole);
    assert_ne!(hash_of(&[&bytes[..], &[0]].concat()), whole);
}

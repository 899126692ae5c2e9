//! [`Slab`]: what the poller's tokens stand for. A token of something that is gone finds nothing, even if its place has
//! been taken by something else meanwhile.

use super::poller::Token;

/// Bits of a token that are not the place.
const GENERATIONS: u32 = 0x3fff_ffff;

/// A table in which things keep their place. One thread owns it.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    /// Set in each token, so that the tokens of several tables can be told apart.
    mark: Token,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    content: Option<T>,
}

impl<T> Slab<T> {
    /// An empty table. `mark`: bit 62 or 63, or nothing.
    pub(crate) fn new(mark: Token) -> Self {
        Self { places: Vec::new(), free: Vec::new(), mark, len: 0 }
    }

    /// Things in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts something in: its token.
    pub(crate) fn insert(&mut self, content: T) -> Token {
        self.len += 1;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place { generation: 0, content: None });
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let Some(place) = self.places.get_mut(index as usize) else { return self.mark };
        place.content = Some(content);
        self.mark | Token::from(place.generation) << 32 | Token::from(index)
    }

    fn place(&mut self, token: Token) -> Option<&mut Place<T>> {
        let place = self.places.get_mut((token & 0xffff_ffff) as usize)?;
        (Token::from(place.generation) == (token & !self.mark) >> 32).then_some(place)
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.place(token)?.content.as_mut()
    }

    /// Takes something out; its token means nothing from now on.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.place(token)?;
        let content = place.content.take()?;
        place.generation = (place.generation + 1) & GENERATIONS;
        self.free.push((token & 0xffff_ffff) as u32);
        self.len -= 1;
        Some(content)
    }

    /// All tokens that stand for something.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let token = |(index, place): (usize, &Place<T>)| {
            let is_taken = place.content.is_some();
            is_taken.then_some(self.mark | Token::from(place.generation) << 32 | index as Token)
        };
        self.places.iter().enumerate().filter_map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_means_one_thing_and_never_another() {
        let mark = 1 << 63;
        let mut slab = Slab::new(mark);
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert!(a & mark != 0 && a != b);
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!((slab.remove(a), slab.len()), (None, 1));
        let c = slab.insert("c");
        assert_eq!(c & 0xffff_ffff, a & 0xffff_ffff, "the place is used again");
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.get_mut(c), Some(&mut "c"));
        assert_eq!(slab.tokens().len(), 2);
        assert_eq!(slab.remove(b), Some("b"));
    }
}

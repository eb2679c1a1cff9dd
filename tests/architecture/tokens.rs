//! Splits Rust source text into tokens. Comments are dropped and literals lose their content, so
//! that their text is not parsed as code.

/// A token and its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An identifier or a keyword; raw identifiers without `r#`.
    Ident(String),
    /// `::`
    PathSep,
    /// `->` or `=>`, so that their `>` does not end generic arguments.
    Arrow,
    Punct(char),
    /// A string, character, byte or number.
    Literal,
    Lifetime,
}

impl Token {
    pub(super) fn ident(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn is_ident(&self, name: &str) -> bool {
        self.ident() == Some(name)
    }

    pub(super) fn is(&self, punct: char) -> bool {
        self.kind == TokenKind::Punct(punct)
    }
}

pub(super) fn tokenize(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn next_token(&mut self) -> Option<Token> {
        self.skip_blanks_and_comments();
        let line = self.line;
        let first = self.peek(0)?;
        let kind = match first {
            '"' => self.string(),
            '\'' => self.char_or_lifetime(),
            'r' | 'b' | 'c' if self.begins_prefixed_literal() => self.prefixed_literal(),
            first if first.is_ascii_digit() => self.number(),
            first if first.is_alphabetic() || first == '_' => self.ident(),
            ':' if self.peek(1) == Some(':') => self.take(2, TokenKind::PathSep),
            '-' | '=' if self.peek(1) == Some('>') => self.take(2, TokenKind::Arrow),
            other => self.take(1, TokenKind::Punct(other)),
        };
        Some(Token { kind, line })
    }

    fn peek(&self, offset: usize) -> Option<char> {
        self.chars.get(self.at + offset).copied()
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn take(&mut self, count: usize, kind: TokenKind) -> TokenKind {
        for _ in 0..count {
            self.advance();
        }
        kind
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('/')) => {
                    while self.peek(0).is_some_and(|next| next != '\n') {
                        self.advance();
                    }
                }
                (Some('/'), Some('*')) => self.skip_block_comment(),
                (Some(blank), _) if blank.is_whitespace() => drop(self.advance()),
                _ => return,
            }
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => drop(self.advance()),
                (None, _) => return,
            }
        }
    }

    fn string(&mut self) -> TokenKind {
        self.advance();
        while let Some(next) = self.advance() {
            match next {
                '\\' => drop(self.advance()),
                '"' => break,
                _ => {}
            }
        }
        TokenKind::Literal
    }

    fn char_or_lifetime(&mut self) -> TokenKind {
        let is_char = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.advance();
        if !is_char {
            self.ident();
            return TokenKind::Lifetime;
        }
        while let Some(next) = self.advance() {
            match next {
                '\\' => drop(self.advance()),
                '\'' => break,
                _ => {}
            }
        }
        TokenKind::Literal
    }

    /// Whether a string with a prefix begins here (`r"`, `r#"`, `b"`, `b'`, `br#"`, `c"` and so on)
    /// or a raw identifier (`r#type`).
    fn begins_prefixed_literal(&self) -> bool {
        let mut offset = 1;
        if self.peek(0) != Some('r') && self.peek(1) == Some('r') {
            offset = 2;
        }
        let is_raw = offset == 2 || self.peek(0) == Some('r');
        match self.peek(offset) {
            Some('"') => true,
            Some('\'') => self.peek(0) == Some('b') && !is_raw,
            Some('#') => is_raw,
            _ => false,
        }
    }

    fn prefixed_literal(&mut self) -> TokenKind {
        let mut is_raw = false;
        while let Some(prefix @ ('r' | 'b' | 'c')) = self.peek(0) {
            is_raw |= prefix == 'r';
            self.advance();
        }
        if self.peek(0) == Some('\'') {
            return self.char_or_lifetime();
        }
        if !is_raw {
            return self.string();
        }
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            hashes += 1;
            self.advance();
        }
        if self.peek(0) != Some('"') {
            return self.ident();
        }
        self.advance();
        while let Some(next) = self.advance() {
            if next == '"' && (0..hashes).all(|offset| self.peek(offset) == Some('#')) {
                self.at += hashes;
                break;
            }
        }
        TokenKind::Literal
    }

    fn ident(&mut self) -> TokenKind {
        let mut name = String::new();
        while let Some(next) = self.peek(0)
            && (next.is_alphanumeric() || next == '_')
        {
            name.push(next);
            self.advance();
        }
        TokenKind::Ident(name)
    }

    /// The fraction of a number is left as further tokens, so that `0..n` needs no special case.
    fn number(&mut self) -> TokenKind {
        self.ident();
        TokenKind::Literal
    }
}

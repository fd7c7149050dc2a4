//! What each byte means outside strings and comments.

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Bad,
    Space,
    Letter,
    Digit,
    Dollar,
    Single,
    Double,
    Dash,
    Slash,
    Open,
    Close,
    Dot,
    Comma,
    Semicolon,
    Colon,
    Other,
}

#[inline]
pub(super) fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

#[inline]
pub(super) fn continues_word(byte: u8) -> bool {
    matches!(class(byte), Class::Letter | Class::Digit | Class::Dollar)
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0;
    while byte < 256 {
        // Bytes of 128 and more are letters to PostgreSQL, blanks of Unicode included.
        classes[byte] = match byte {
            0x09..=0x0d | 0x20 => Class::Space,
            0x30..=0x39 => Class::Digit,
            0x41..=0x5a | 0x5f | 0x61..=0x7a | 0x80..=0xff => Class::Letter,
            _ => Class::Bad,
        };
        byte += 1;
    }
    let others = b"~!@#^&|`?+*%<>=[]";
    let mut at = 0;
    while at < others.len() {
        classes[others[at] as usize] = Class::Other;
        at += 1;
    }
    classes[b'$' as usize] = Class::Dollar;
    classes[b'\'' as usize] = Class::Single;
    classes[b'"' as usize] = Class::Double;
    classes[b'-' as usize] = Class::Dash;
    classes[b'/' as usize] = Class::Slash;
    classes[b'(' as usize] = Class::Open;
    classes[b')' as usize] = Class::Close;
    classes[b'.' as usize] = Class::Dot;
    classes[b',' as usize] = Class::Comma;
    classes[b';' as usize] = Class::Semicolon;
    classes[b':' as usize] = Class::Colon;
    classes
};

//! Numbers as text, without what formatting links.

use alloc::string::String;

/// Writes a number in decimal digits.
pub(crate) fn push_decimal(number: u64, text: &mut String) {
    if number >= 10 {
        push_decimal(number / 10, text);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// Writes bytes in hexadecimal digits.
pub(crate) fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_formatting_writes_them() {
        for number in [0, 7, 10, 1_700_086_400_000, u64::MAX] {
            let mut text = String::new();
            push_decimal(number, &mut text);
            assert_eq!(text, number.to_string());
            text.clear();
            push_hex(&number.to_be_bytes(), &mut text);
            assert_eq!(text, format!("{number:016x}"));
        }
    }
}

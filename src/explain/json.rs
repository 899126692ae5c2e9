//! An explanation for programs. Its keys stay: others may be added.

use super::Explanation;
use super::text::is_unfit;

/// Indented JSON. Everything that a terminal could take for an order is escaped, as JSON has it.
pub(super) fn json(explanation: &Explanation) -> String {
    // Maps have names for keys, and numbers are finite: nothing in it can fail.
    let json = serde_json::to_string_pretty(explanation).unwrap_or_default();
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        // serde_json leaves alone what is above 0x1f.
        if is_unfit(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}

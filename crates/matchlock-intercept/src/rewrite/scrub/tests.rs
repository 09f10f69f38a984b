use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use matchlock_policy::{Secrets, Transport};

use super::super::testing::{allowed, headers, placeholder, secrets, spec};
use super::*;
use crate::h1::{Status, Version};

const VALUE: &str = "sk-live/Q+7%~é\"z";

fn own() -> Secrets {
    secrets(vec![spec("KEY", VALUE, "example.com"), spec("OTHER", "other-value", "example.net")])
}

/// What comes out, with the placeholder shortened to `<>`.
fn scrub(coding: Option<&str>, chunks: &[&[u8]]) -> Result<String, Undecodable> {
    let secrets = own();
    let bound = secrets.reveal(&allowed("example.com"), Transport::Tls);
    let mut scrubber = Scrubber::new(&bound, coding.map(str::as_bytes))?.expect("a secret");
    let mut out = Vec::new();
    for chunk in chunks {
        let mut chunk = *chunk;
        while scrubber.push(chunk, &mut out)? == Progress::More {
            chunk = b"";
        }
    }
    while scrubber.finish(&mut out)? == Progress::More {}
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(text.replace(&placeholder(&secrets, 0), "<>"))
}

/// The value as other programs write it; what is before and after belongs to the frame.
fn written() -> Vec<(String, &'static str)> {
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = VALUE.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let json: String = VALUE.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let percent_twice = percent.replace('%', "%25");
    let braces: String = VALUE.chars().map(|c| format!("\\u{{{:x}}}", u32::from(c))).collect();
    let numbers: String = VALUE.chars().map(|c| format!("&#{}", u32::from(c))).collect();
    let dump: Vec<_> = VALUE.bytes().map(|byte| format!("{byte:02X}")).collect();
    let dump = dump.join(" ");
    let mut forms = vec![
        (VALUE.to_owned(), "<>"),
        (hex.to_uppercase(), "<>"),
        (hex, "<>"),
        (percent.to_uppercase(), "<>"),
        (percent, "<>"),
        ("sk-live%2FQ%2B7%25~%C3%a9%22z".to_owned(), "<>"),
        ("sk-live%2FQ%2B7%25%7E%C3%a9%22z".to_owned(), "<>"),
        (json, "<>"),
        (r#"sk-live\/Q+7%~\u00E9\"z"#.to_owned(), "<>"),
        ("sk-live/Q&#43;7%~&#xe9;&quot;z".to_owned(), "<>"),
        (r#"sk-live%2FQ\u002b7%25~&#233;\"z"#.to_owned(), "<>"),
        (percent_twice, "<>"),
        (braces, "<>"),
        (numbers, "<>"),
        (dump.replace(' ', ":"), "<>"),
        (dump.replace(' ', ", "), "<>"),
        (dump, "<>"),
        ("=73k-live/Q+7%~=C3=A9\"z".to_owned(), "<>"),
        ("sk-li=\r\nve/Q+7%~=c3=\n=a9=22z".to_owned(), "<>"),
    ];
    for before in ["", "u:", "x"] {
        // What the value does not decide alone stays: characters with bits of its neighbours.
        let text = format!("{before}{VALUE}");
        forms.push((STANDARD.encode(&text), ""));
        forms.push((URL_SAFE.encode(&text), ""));
        forms.push((STANDARD.encode(&text).replace('+', "%2B").replace('/', "%2f"), ""));
        forms.push((STANDARD.encode(&text).replace('/', r"\/"), ""));
        let lines: Vec<_> = STANDARD.encode(&text).into_bytes();
        let lines: Vec<_> = lines.chunks(7).map(|line| String::from_utf8_lossy(line)).collect();
        forms.push((lines.join("\r\n"), ""));
    }
    forms
}

#[test]
fn values_are_found_however_they_are_written_and_split() {
    for (written, expected) in written() {
        let body = format!("[before:{written}:after]");
        let whole = scrub(None, &[body.as_bytes()]).unwrap();
        assert!(whole.contains("<>"), "{body} gave {whole}");
        if !expected.is_empty() {
            assert_eq!(whole, format!("[before:{expected}:after]"), "{body}");
        }
        for cut in 0..body.len() {
            let (one, other) = body.as_bytes().split_at(cut);
            assert_eq!(scrub(None, &[one, other]).unwrap(), whole, "{body} at {cut}");
        }
        let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(scrub(None, &bytes).unwrap(), whole, "{body} by bytes");
    }
}

#[test]
fn base32_is_found_at_every_alignment() {
    for (before, written) in [
        // `base32` of coreutils, of the text with so many letters before it.
        ("", "ONVS23DJOZSS6UJLG4SX5Q5JEJ5A===="),
        ("u", "OVZWWLLMNF3GKL2RFM3SK7WDVERHU==="),
        ("us", "OVZXG2ZNNRUXMZJPKEVTOJL6YOUSE6Q="),
        ("use", "OVZWK43LFVWGS5TFF5ISWNZFP3B2SIT2"),
        ("user", "OVZWK4TTNMWWY2LWMUXVCKZXEV7MHKJCPI======"),
    ] {
        for written in [written.to_owned(), written.to_lowercase()] {
            let out = scrub(None, &[written.as_bytes()]).unwrap();
            assert!(out.contains("<>"), "{before} gave {out}");
        }
    }
}

#[test]
fn wide_characters_are_found_however_they_are_split() {
    for width in ["16le", "16be", "32le", "32be"] {
        let encode = |text: &str| -> Vec<u8> {
            let wide = |c: char| -> Vec<u8> {
                let code = u32::from(c);
                let unit = u16::try_from(code).expect("of the basic plane");
                match width {
                    "16le" => unit.to_le_bytes().to_vec(),
                    "16be" => unit.to_be_bytes().to_vec(),
                    "32le" => code.to_le_bytes().to_vec(),
                    _ => code.to_be_bytes().to_vec(),
                }
            };
            text.chars().flat_map(wide).collect()
        };
        let base64 = STANDARD.encode(VALUE);
        for written in [VALUE, "sk-live\\/Q+7%25~&#233;\\\"z", &base64] {
            let body = encode(&format!("\u{feff}[{written}]"));
            let whole = scrub(None, &[&body]).unwrap();
            let narrow: String = whole.chars().filter(|c| *c != '\0').collect();
            assert!(narrow.contains("SANDBOX_SECRET"), "{width} {written} gave {narrow}");
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            assert_eq!(scrub(None, &bytes).unwrap(), whole, "{width} by bytes");
            for cut in 0..body.len() {
                let (one, other) = body.split_at(cut);
                assert_eq!(scrub(None, &[one, other]).unwrap(), whole, "{width} at {cut}");
            }
        }
    }
}

#[test]
fn a_number_without_its_semicolon_may_be_the_last() {
    let written: String = VALUE.chars().map(|c| format!("&#{}", u32::from(c))).collect();
    assert_eq!(scrub(None, &[written.as_bytes()]).unwrap(), "<>");
}

#[test]
fn what_is_not_a_value_stays() {
    for body in ["", "sk-live", "\\", "%", "&", "100% \\n &amp; sk-liv%65", "other-value"] {
        assert_eq!(scrub(None, &[body.as_bytes()]).unwrap(), body);
    }
}

#[test]
fn encoded_bodies_are_decoded_first() {
    let body = format!("{}{VALUE}{}", "a".repeat(300_000), "b".repeat(300_000));
    let expected = body.replace(VALUE, "<>");
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let encoded = super::super::coding::encode(coding, body.as_bytes());
        assert_eq!(scrub(Some(coding), &[&encoded]).unwrap(), expected, "{coding}");
        let bytes: Vec<&[u8]> = encoded.chunks(1000).collect();
        assert_eq!(scrub(Some(coding), &bytes).unwrap(), expected, "{coding}");
        assert!(scrub(Some(coding), &[&encoded[..encoded.len() - 1]]).is_err(), "{coding}");
        assert!(scrub(Some(coding), &[VALUE.as_bytes()]).is_err(), "{coding} that is none");
    }
    assert!(matches!(scrub(Some("compress"), &[]), Err(Undecodable::Unknown)));
}

#[test]
fn without_a_secret_of_the_host_nothing_is_done() {
    let secrets = own();
    let bound = secrets.reveal(&allowed("example.org"), Transport::Tls);
    assert!(Scrubber::new(&bound, Some(b"compress")).unwrap().is_none());
}

#[test]
fn heads_and_trailers_are_scrubbed() {
    let secrets = secrets(vec![spec("KEY", "Sec.ret-Value", "example.com")]);
    let own = placeholder(&secrets, 0);
    let bound = secrets.reveal(&allowed("example.com"), Transport::Tls);
    let basic = STANDARD.encode("user:Sec.ret-Value");
    let fields = [
        ("Set-Cookie", "k=Sec.ret-Value; Path=/"),
        ("Location", "/?k=Sec%2Eret%2DValue"),
        ("X-Echo", basic.as_str()),
        ("sec.ret-value", "1"),
        ("X-Sec.ret-Value", "2"),
        ("Other", "3"),
    ];
    let reason = Reason::new("No Sec.ret-Value").unwrap();
    let status = Status::new(400).unwrap();
    let mut head =
        ResponseHead { version: Version::Http11, status, reason, headers: headers(&fields) };
    scrub_head(&mut head, &bound);
    assert_eq!(head.reason.as_bytes(), format!("No {own}").as_bytes());
    let lines: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(lines[0], format!("Set-Cookie: k={own}; Path=/"));
    assert_eq!(lines[1], format!("Location: /?k={own}"));
    assert!(lines[2].contains(&own), "{}", lines[2]);
    assert_eq!(lines[3..], ["Other: 3"]);
}

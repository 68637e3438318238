//! Cookies that are ours, pages that are ours, and logins that were ended.

use super::token::LIFE_S;
use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn claims(name: &str) -> Claims {
    Claims::new(Login { key: "key_1".to_owned(), print: 1 }, name.to_owned(), now_s())
}

#[test]
fn a_cookie_is_found_among_others() {
    let found = |line: &str| cookie(&headers(&[("cookie", line)])).map(str::to_owned);
    assert_eq!(found("a=b; impetus_login=x.y.z; c=d").as_deref(), Some("x.y.z"));
    assert_eq!(found("impetus_login=x").as_deref(), Some("x"));
    assert_eq!(found("other_impetus_login=x; impetus_loginx=y"), None);
}

#[test]
fn a_cookie_counts_for_our_own_pages_only() {
    let host = ("host", "127.0.0.1:8420");
    let asks = |method: Method, lines: &[(&'static str, &str)]| {
        own_page(&method, &headers(&[&[host], lines].concat())).is_ok()
    };
    for origin in ["http://127.0.0.1:8420", "https://127.0.0.1:8420"] {
        assert!(asks(Method::POST, &[("origin", origin)]) && asks(Method::GET, &[("origin", origin)]));
    }
    assert!(asks(Method::GET, &[]) && asks(Method::GET, &[("sec-fetch-site", "none")]));
    assert!(asks(Method::HEAD, &[("sec-fetch-site", "same-origin")]));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert!(!asks(method.clone(), &[]), "{method} without an origin");
        assert!(!asks(method.clone(), &[("sec-fetch-site", "same-origin")]), "{method}");
    }
    for origin in
        ["http://127.0.0.1:3000", "http://localhost:8420", "null", "", "http://127.0.0.1", "ftp://127.0.0.1:8420"]
    {
        for method in [Method::GET, Method::POST] {
            assert!(!asks(method.clone(), &[("origin", origin)]), "{method} from {origin:?}");
        }
    }
    for site in ["cross-site", "same-site"] {
        assert!(!asks(Method::GET, &[("sec-fetch-site", site)]), "{site}");
    }
}

#[test]
fn a_login_that_was_ended_is_over_and_no_more_than_so_many_are_remembered() {
    let logins = Logins::new(false, b"secret");
    let carried = |claims: &Claims| headers(&[("cookie", &format!("{COOKIE}={}", logins.signer.sign(claims)))]);
    let (first, second) = (claims("login_1"), claims("login_2"));
    assert_eq!(logins.of(&carried(&first)), Some(first.clone()));
    logins.end(&first);
    assert_eq!(logins.of(&carried(&first)), None);
    assert_eq!(logins.of(&carried(&second)), Some(second));
    for at in 0..2 * ENDED_MAX {
        logins.end(&claims(&format!("login_{at}")));
    }
    assert!(logins.ended.lock().unwrap().len() <= ENDED_MAX);
}

#[test]
fn the_cookie_is_hidden_from_scripts_and_other_sites_and_kept_to_tls_where_there_is_tls() {
    let written = |secure| Logins::new(secure, b"secret").cookie(&claims("login_1")).to_str().unwrap().to_owned();
    let plain = written(false);
    assert!(plain.starts_with("impetus_login=eyJ") && plain.contains(&format!("Max-Age={LIFE_S}")), "{plain}");
    assert!(plain.contains("; HttpOnly; SameSite=Strict") && plain.contains("; Path=/;") && !plain.contains("Secure"));
    assert!(written(true).ends_with("; Secure"));
}

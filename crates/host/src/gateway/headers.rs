//! Headers on their way through: what belongs to one connection stays there (RFC 9110, 7.6.1), and who passed it on is said.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The user whom the gateway knows the client to be.
pub const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
/// Which tier answered: `server`, `cache`, `cache-revalidated`, `cache-stale`, `fallback-NAME`, `fallback-page`, `gateway`.
pub const X_ANSWERED_BY: HeaderName = HeaderName::from_static("x-answered-by");

const VIA: &str = "1.1 althing";
const OF_ONE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = (headers.get_all(header::CONNECTION).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let before: Vec<&str> = (headers.get_all(&name).iter())
        .filter_map(|value| value.to_str().ok())
        .collect();
    let whole = match before.is_empty() {
        true => value.to_owned(),
        false => format!("{}, {value}", before.join(", ")),
    };
    if let Ok(value) = HeaderValue::from_str(&whole) {
        headers.insert(name, value);
    }
}

/// Makes a client's headers those of the request to a server.
pub fn prepare_request(headers: &mut HeaderMap, from: IpAddr) {
    strip(headers);
    // The library writes the body's framing anew, and has answered the expectation.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    headers.remove(X_FORWARDED_USER);
    append(headers, X_FORWARDED_FOR, &from.to_string());
    append(headers, header::VIA, VIA);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// Makes a server's headers those of the answer to a client.
pub fn prepare_answer(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(X_ANSWERED_BY);
    append(headers, header::VIA, VIA);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_stay_there_and_forwarders_are_named() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "shop.example"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "x"),
            ("content-length", "3"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-user", "root"),
            ("via", "1.0 fred"),
            ("accept", "*/*"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        prepare_request(&mut headers, [10, 0, 0, 2].into());
        let mut left: Vec<String> = (headers.iter())
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "accept: */*",
                "host: shop.example",
                "via: 1.0 fred, 1.1 althing",
                "x-forwarded-for: 10.0.0.1, 10.0.0.2",
                "x-forwarded-host: shop.example",
                "x-forwarded-proto: http",
            ]
        );
    }
}

use proptest::prelude::*;

use super::bench::{Bench, bounded};

/// Requests of one connection, with a secret in every place that can have one. They are answered when
/// they are complete: an answer that begins before that ends the connection.
fn requests(bench: &Bench) -> Vec<u8> {
    let p = &bench.placeholder;
    let mut all = format!(
        "GET /echo?k={p} HTTP/1.1\r\nHost: api.example.com\r\nX-Key: a {p} b\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: {}\r\n\r\n[{p}]\
         POST /upload HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n",
        p.len() + 2
    );
    let (first, second) = p.split_at(7);
    for part in ["<", first, second, ">"] {
        all += &format!("{:x}\r\n{part}\r\n", part.len());
    }
    all += "0\r\nX-Sum: 1\r\n\r\n";
    all += "GET /last HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    all.into_bytes()
}

/// What the origin got: heads byte for byte, bodies, trailers.
async fn run(cuts: &[usize]) -> Vec<(String, String, Vec<(String, String)>)> {
    let bench = Bench::new();
    let all = requests(&bench);
    let mut guest = bench.connect().await;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % all.len()).collect();
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts.into_iter().chain([all.len()]) {
        guest.send(&all[from..cut]).await;
        // Lets the other side see just that much.
        tokio::task::yield_now().await;
        from = cut;
    }
    bounded(guest.rest()).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = bench.origin.requests();
    seen.into_iter().map(|r| (text(&r.head), text(&r.body), r.trailers)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn how_the_guest_cuts_its_bytes_makes_no_difference(
        cuts in prop::collection::vec(any::<usize>(), 0..40)
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (whole, cut) = runtime.block_on(async { (run(&[]).await, run(&cuts).await) });
        prop_assert_eq!(whole.len(), 4);
        prop_assert_eq!(whole, cut);
    }
}

//! Bad artifacts, bundles and starting weights.

use std::path::Path;

use crate::world::{Cases, World, part, tensors};

pub fn artifacts(world: &World, cases: &mut Cases) {
    cases.group("Artifacts");
    let good = || part(&[1.0, 2.0, 3.0, 4.0], &[0, 3], 2);
    let train = |first: Vec<u8>| {
        let files = [
            ("train.safetensors", first),
            ("valid.safetensors", good()),
            ("test.safetensors", good()),
        ];
        world.stage("train", "train.slp", "tensors", &files)
    };
    cases.add(
        "missing tensors",
        3,
        "an artifact of an earlier stage is missing",
        world.stage("train", "train.slp", "tensors", &[("x", vec![])]),
    );
    cases.add("an empty file of tensors", 3, "", train(Vec::new()));
    cases.add(
        "tensors with a header that is longer than the file",
        3,
        "",
        train([&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
    );
    cases.add("tensors with a header that is not JSON", 3, "", train(tensors("not json", b"")));
    let beyond = r#"{"X":{"dtype":"F32","shape":[1000000,300],"data_offsets":[0,1200000000]}}"#;
    cases.add("tensors that claim more than the file has", 3, "", train(tensors(beyond, &[0; 8])));
    let ids = r#""id":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"y":{"dtype":"I64","shape":[2],"data_offsets":[16,32]}"#;
    let double = tensors(
        &format!(r#"{{{ids},"X":{{"dtype":"F64","shape":[2,2],"data_offsets":[32,64]}}}}"#),
        &[0; 64],
    );
    cases.add("features of another type", 3, "array `X` is F64 [2, 2]", train(double));
    let vector = format!(r#"{{{ids},"X":{{"dtype":"F32","shape":[2],"data_offsets":[32,40]}}}}"#);
    cases.add(
        "features that are not a matrix",
        3,
        "array `X` is F32 [2]",
        train(tensors(&vector, &[0; 40])),
    );
    let alone = r#"{"X":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    cases.add("features without labels", 3, "", train(tensors(alone, &[0; 8])));
    cases.add(
        "more rows than labels",
        3,
        "array `id` is I64 [1], not I64 [2]",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[0], 2)),
    );
    cases.add(
        "a label of 4",
        3,
        "label 4 in row 1",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[0, 4], 2)),
    );
    cases.add(
        "a label of -1",
        3,
        "label -1 in row 0",
        train(part(&[1.0, 2.0, 3.0, 4.0], &[-1, 0], 2)),
    );
    cases.add(
        "a feature that is NaN",
        3,
        "X is not finite in row 1, column 0",
        train(part(&[1.0, 2.0, f32::NAN, 4.0], &[0, 1], 2)),
    );
    cases.add("no rows at all", 3, "X has no rows", train(part(&[], &[], 2)));
    cases.add(
        "parts with different numbers of features",
        3,
        "not F32 [n, 3]",
        train(part(&[1.0; 6], &[0, 1], 3)),
    );
    let parquet = |file: &str| std::fs::read(world.artifacts.path().join(file)).expect("reads");
    let other = || {
        world.stage(
            "split",
            "split",
            "ingest",
            &[("headlines.parquet", parquet("embed/vocabulary.parquet"))],
        )
    };
    cases.add("a table with other columns", 3, "headlines.parquet", other());
    let table = parquet("ingest/headlines.parquet");
    cases.add(
        "half a table",
        3,
        "headlines.parquet",
        world.stage(
            "split",
            "split",
            "ingest",
            &[("headlines.parquet", table[..table.len() / 2].to_vec())],
        ),
    );
    cases.add(
        "a file that is not a table",
        3,
        "headlines.parquet",
        world.stage("split", "split", "ingest", &[("headlines.parquet", b"no parquet".to_vec())]),
    );
    let mismatch = [
        ("vocabulary.parquet", parquet("embed/vocabulary.parquet")),
        (
            "vectors.safetensors",
            tensors(r#"{"vectors":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#, &[0; 8]),
        ),
    ];
    cases.add(
        "another number of vectors than of words",
        3,
        "words for 1 vectors",
        world.stage("tensors", "tensors", "embed", &mismatch),
    );
    sequences(world, cases);
    let mlp = world.artifacts.path().join("train.mlp/model.safetensors");
    cases.add(
        "starting weights of another net",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", mlp.display())]),
    );
    let page = world.put("init.safetensors", b"<html>");
    cases.add(
        "starting weights that are a web page",
        3,
        "train.slp.init",
        world.set_to("train.slp", &[&format!("train.slp.init={}", page.display())]),
    );

    cases.group("Bundles");
    let import = |path: &Path| world.xtask(&["cache", "import", &path.display().to_string()]);
    cases.add(
        "a bundle that does not exist",
        3,
        "cannot read the bundle",
        import(&world.dir.path().join("nothing.knockline")),
    );
    cases.add("a folder", 3, "this is a folder, not a bundle", import(world.dir.path()));
    cases.add(
        "a file that is not a bundle",
        3,
        "this is not a bundle",
        import(&world.put("page.knockline", b"<html>")),
    );
    let whole = world.dir.path().join("whole.knockline");
    world.artifacts.run(&["cache", "export", &whole.display().to_string(), "ingest"]).ok();
    let bytes = std::fs::read(&whole).expect("a bundle");
    cases.add(
        "half a bundle",
        3,
        "damaged or cut off",
        import(&world.put("half.knockline", &bytes[..bytes.len() / 2])),
    );
    let mut flipped = bytes.clone();
    // The frame ends in a checksum (RFC 8878, section 3.1.1).
    *flipped.last_mut().expect("bytes") ^= 4;
    cases.add(
        "a bundle with a wrong checksum",
        3,
        "get the bundle again",
        import(&world.put("flipped.knockline", &flipped)),
    );
}

/// Bad results of `tokens`.
fn sequences(world: &World, cases: &mut Cases) {
    let table = |values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let header = format!(
            r#"{{"E":{{"dtype":"F32","shape":[{},2],"data_offsets":[0,{}]}}}}"#,
            values.len() / 2,
            data.len()
        );
        tensors(&header, &data)
    };
    let rows = |ids: [u32; 2], offsets: [i64; 3], y: [i64; 2]| {
        let header = r#"{"offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},"y":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},"id":{"dtype":"I64","shape":[2],"data_offsets":[40,56]},"ids":{"dtype":"U32","shape":[2],"data_offsets":[56,64]}}"#;
        let long = offsets.into_iter().chain(y).chain([1, 2]).flat_map(i64::to_le_bytes);
        let data: Vec<u8> = long.chain(ids.into_iter().flat_map(u32::to_le_bytes)).collect();
        tensors(header, &data)
    };
    let good = || rows([1, 2], [0, 1, 2], [0, 1]);
    let train = |e: &[f32], first: Vec<u8>| {
        let files = [
            ("embeddings.safetensors", table(e)),
            ("train.safetensors", first),
            ("valid.safetensors", good()),
            ("test.safetensors", good()),
        ];
        let mut command = world.stage("train", "train.x", "tokens", &files);
        command.args(["--set", "net=mean"]);
        command
    };
    let e = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0];
    cases.add(
        "a matrix of embeddings whose row for padding is not zeros",
        3,
        "row 0 of E, the padding, is not zeros",
        train(&[0.0, 1.0, 1.0, 2.0, 3.0, 4.0], good()),
    );
    cases.add(
        "an embedding that is not a number",
        3,
        "E is not finite in row 1, column 1",
        train(&[0.0, 0.0, 1.0, f32::NAN, 3.0, 4.0], good()),
    );
    cases.add(
        "a token that the matrix has no row for",
        3,
        "token 1 has id 3; ids are 1 to 2",
        train(&e, rows([1, 3], [0, 1, 2], [0, 1])),
    );
    cases.add(
        "a sequence that contains padding",
        3,
        "token 0 has id 0; ids are 1 to 2",
        train(&e, rows([0, 2], [0, 1, 2], [0, 1])),
    );
    cases.add(
        "sequences whose ends are out of order",
        3,
        "`offsets` does not go from 0 to the number of tokens",
        train(&e, rows([1, 2], [0, 3, 2], [0, 1])),
    );
    cases.add(
        "a sequence with a label that there is not",
        3,
        "label 4 in row 1; labels are 0 to 3",
        train(&e, rows([1, 2], [0, 1, 2], [0, 4])),
    );
}

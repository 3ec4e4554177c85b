//! A trained run of any net, and what it needs to answer.

mod desk;
mod sequences;

use std::path::Path;

use classifiers::RunOptions;
use classifiers::calibration::Calibrator;
use classifiers::embedding_bag::{BagDesk, BagModel};
use classifiers::linear::LinearModel;
use classifiers::neighbours::{Index, Search, Vote};
use classifiers::stacking::Stacking;
use failure::{Failure, Result};
use formats::arrays::Csr;
use headline_features::{Lookup, LookupFiles, Projection};
use nets::{Classifier, SequenceInference, Table};
use ngram_features::Features;
use schema::{Labels, RunConfig};

pub use desk::ModelDesk;
use desk::Rows;

/// A run, and the artifacts that make its features.
pub struct Model {
    labels: Labels,
    lookup: Lookup,
    ngrams: Option<Features>,
    run: Run,
    /// The rows that runs of nearest neighbours search, one index for all.
    index: Option<Index>,
    /// Whether it takes the mean word vectors themselves.
    takes_vectors: bool,
    /// Whether the words' vectors make a difference to it.
    knows_words: bool,
}

impl Kind {
    /// Whether it takes n-grams.
    const fn knows_ngrams(&self) -> bool {
        matches!(self, Self::Linear(..) | Self::Neighbours(_) | Self::Bag(_, Tokens::Ngrams))
    }

    /// Whether it takes the words' vectors, or what follows from them.
    fn knows_words(&self) -> bool {
        match self {
            Self::Net(_) | Self::Sequences(_) => true,
            Self::Linear(linear, _) => linear.dimension() > 0,
            Self::Bag(_, of) => *of == Tokens::Words,
            Self::Neighbours(_) | Self::Stack(..) => false,
        }
    }
}

/// A run's classifier.
struct Run {
    kind: Kind,
    calibrator: Calibrator,
}

enum Kind {
    Net(Box<Classifier>),
    /// With the products of the words' vectors, if it takes them.
    Linear(LinearModel, Option<Projection>),
    Neighbours(Vote),
    Bag(Box<BagModel>, Tokens),
    Sequences(Box<SequenceInference>),
    Stack(Vec<Run>, Stacking),
}

/// What the vectors of a bag belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Ngrams,
    Words,
}

impl Model {
    /// Reads the run `run` from a folder of artifacts.
    pub fn read(artifacts: &Path, run: &str) -> Result<Self> {
        let labels = Labels::read(&artifacts.join(run).join(Labels::FILE))?;
        let of = read_run(artifacts, run, &labels, false)?;
        let lookup = Lookup::read(&LookupFiles::with_more_words(&artifacts.join("embed")))?;
        let folder = artifacts.join("ngrams");
        let ngrams = of
            .any(&Kind::knows_ngrams)
            .then(|| {
                Features::read(
                    &folder.join(ngram_features::VOCABULARY),
                    &folder.join(ngram_features::DESCRIPTION),
                )
            })
            .transpose()?;
        let takes_vectors = of.any(&|kind| matches!(kind, Kind::Net(_)));
        let knows_words = of.any(&Kind::knows_words);
        let searches = of.any(&|kind| matches!(kind, Kind::Neighbours(_)));
        let mut model =
            Self { labels, lookup, ngrams, run: of, index: None, takes_vectors, knows_words };
        model.check(artifacts, run)?;
        if searches {
            let path = folder.join("train.safetensors");
            let rows = Csr::map(&path, model.labels.len())?;
            let columns = model.ngrams.as_ref().map_or(0, Features::columns);
            if rows.columns != columns {
                let what = format_args!("{} columns, not the {columns} n-grams", rows.columns);
                return Err(Failure::artifact(what, &path));
            }
            model.index = Some(Index::new(&rows));
        }
        model.run.project(&model.lookup);
        Ok(model)
    }

    /// Checks that the features are those that the run takes.
    fn check(&self, artifacts: &Path, run: &str) -> Result<()> {
        let columns = self.ngrams.as_ref().map_or(0, Features::columns);
        let has = self.lookup.dimension();
        let takes_others = |kind: &Kind| match kind {
            Kind::Net(net) => net.dimension() != has,
            Kind::Linear(of, _) => {
                of.columns() != columns || (of.dimension() > 0 && of.dimension() != has)
            }
            Kind::Bag(bag, Tokens::Ngrams) => bag.tokens() != columns,
            Kind::Bag(bag, Tokens::Words) => {
                bag.dimension() != has || bag.tokens() * has != self.lookup.vectors().len()
            }
            Kind::Sequences(net) => {
                let trained = |own: &Table| own.values().len() - has != self.lookup.vectors().len();
                net.dimension() != has || net.table().is_some_and(trained)
            }
            Kind::Neighbours(_) | Kind::Stack(..) => false,
        };
        if !self.run.any(&takes_others) {
            return Ok(());
        }
        Err(Failure::input(
            format_args!(
                "`{run}` takes other features: `embed` has vectors of {has} components, `ngrams` {columns} n-grams"
            ),
            artifacts.join(run).display(),
            "bring both up to date: cargo xtask pipeline",
        ))
    }

    /// The classes' names.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }
}

fn read_run(artifacts: &Path, run: &str, labels: &Labels, is_member: bool) -> Result<Run> {
    let folder = artifacts.join(run);
    let path = folder.join("config.json");
    let config: RunConfig<RunOptions> = schema::read_json(&path)?;
    let RunOptions { net, k, power, smoothing, tfidf, members } = config.options;
    if Labels::read(&folder.join(Labels::FILE))? != *labels {
        return Err(Failure::artifact("the run has other labels than the stack", &path));
    }
    let model = folder.join("model.safetensors");
    let kind = match net.as_str() {
        "linear" => Kind::Linear(LinearModel::read(&model, labels.len())?, None),
        "bow" => {
            let mut bag = BagModel::read(&model, labels.len(), tfidf)?;
            bag.project();
            Kind::Bag(Box::new(bag), Tokens::Ngrams)
        }
        "dan" => {
            let bag = BagModel::read(&model, labels.len(), false)?;
            Kind::Bag(Box::new(bag), Tokens::Words)
        }
        "knn" if k > 0 && power.is_finite() && smoothing.is_finite() && smoothing > 0.0 => {
            Kind::Neighbours(Vote { k, power, smoothing })
        }
        // A stack has no stack as a member, so that reading ends.
        "stack" if !is_member => {
            let regression = Stacking::read(&model, labels.len(), members.len())?;
            let members = members.iter().map(|run| read_run(artifacts, run, labels, true));
            Kind::Stack(members.collect::<Result<_>>()?, regression)
        }
        "slp" | "mlp" => {
            let kind = Kind::Net(Box::new(Classifier::read(&folder)?));
            return Ok(Run { kind, calibrator: Calibrator::identity() });
        }
        "mean" | "cnn" | "lstm" => {
            let kind = Kind::Sequences(Box::new(SequenceInference::read(&folder)?));
            return Ok(Run { kind, calibrator: Calibrator::identity() });
        }
        _ => {
            return Err(Failure::artifact(
                format_args!("there is no net `{net}`, or its options are wrong"),
                &path,
            ));
        }
    };
    let [json, arrays] = Calibrator::FILES.map(|file| folder.join(file));
    let calibrator = Calibrator::read(&json, Some(&arrays), labels.len())?;
    Ok(Run { kind, calibrator })
}

impl Run {
    /// Whether it or a member of it is of a kind.
    fn any(&self, is: &impl Fn(&Kind) -> bool) -> bool {
        let in_members = match &self.kind {
            Kind::Stack(members, _) => members.iter().any(|member| member.any(is)),
            _ => false,
        };
        is(&self.kind) || in_members
    }

    /// Prepares linear runs for the words' vectors.
    fn project(&mut self, lookup: &Lookup) {
        match &mut self.kind {
            Kind::Linear(linear, projection) if linear.dimension() > 0 => {
                let (matrix, classes) = linear.dense();
                *projection = Some(Projection::new(lookup, matrix, classes));
            }
            Kind::Stack(members, _) => members.iter_mut().for_each(|of| of.project(lookup)),
            _ => {}
        }
    }

    /// The margins of every row at the desk, row after row.
    fn margins(&self, rows: &Rows<'_>, search: &mut Option<Search<'_>>) -> Vec<f32> {
        let classes = rows.classes;
        let mut all = vec![0.0; rows.ends.len() * classes];
        match &self.kind {
            Kind::Net(net) => all = net.logits(rows.dense),
            Kind::Linear(linear, projection) => {
                for (row, to) in all.chunks_exact_mut(classes).enumerate() {
                    let (columns, values) = rows.sparse(row);
                    linear.margins(columns, values, &[], to);
                    if let Some(projection) = projection {
                        projection.add(rows.places(row), to);
                    }
                }
            }
            Kind::Neighbours(vote) => {
                if let Some(search) = search {
                    for (row, to) in all.chunks_exact_mut(classes).enumerate() {
                        vote.margins(search, rows.sparse(row), None, to);
                    }
                }
            }
            Kind::Bag(bag, of) => {
                let mut desk = BagDesk::default();
                let (mut tokens, mut ones) = (Vec::new(), Vec::new());
                for (row, to) in all.chunks_exact_mut(classes).enumerate() {
                    let (columns, values) = match of {
                        Tokens::Ngrams => rows.sparse(row),
                        Tokens::Words => {
                            tokens.clear();
                            let number = |&place: &usize| u32::try_from(place).unwrap_or(u32::MAX);
                            tokens.extend(rows.places(row).iter().map(number));
                            ones.clear();
                            ones.resize(tokens.len(), 1.0);
                            (tokens.as_slice(), ones.as_slice())
                        }
                    };
                    let others = |place| rows.lookup.other_vector(place);
                    bag.margins(&mut desk, columns, values, others, to);
                }
            }
            Kind::Sequences(net) => {
                let vectors = sequences::Vectors::new(rows.lookup, net.table());
                all.clear();
                sequences::each_batch(rows, |batch, pass| {
                    net.logits(batch, &vectors, pass, &mut all);
                });
            }
            Kind::Stack(members, regression) => {
                let width = members.len() * classes;
                let mut inputs = vec![0.0; rows.ends.len() * width];
                for (number, member) in members.iter().enumerate() {
                    let mut margins = member.margins(rows, search);
                    for (from, to) in
                        margins.chunks_exact_mut(classes).zip(inputs.chunks_exact_mut(width))
                    {
                        member.calibrator.input(from);
                        if let Some(to) = to.get_mut(number * classes..(number + 1) * classes) {
                            to.copy_from_slice(from);
                        }
                    }
                }
                for (inputs, to) in inputs.chunks_exact(width).zip(all.chunks_exact_mut(classes)) {
                    regression.margins(inputs, to);
                }
            }
        }
        all
    }
}

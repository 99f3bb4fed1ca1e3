"""The papers that the project cites, by citation key; a test checks the keys in all texts."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reference:
    """A paper. key: its citation in docstrings, comments and tables. arxiv: number, if any."""

    key: str
    authors: str
    title: str
    venue: str
    arxiv: str = ""

    def __str__(self) -> str:
        preprint = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.key}: {self.authors}. {self.title}. {self.venue}{preprint}"


REFERENCES: tuple[Reference, ...] = (
    Reference(
        "Wilson 1927",
        "E. B. Wilson",
        "Probable inference, the law of succession, and statistical inference",
        "Journal of the American Statistical Association 22",
    ),
    Reference(
        "Newcombe 1998",
        "R. G. Newcombe",
        "Two-sided confidence intervals for the single proportion: comparison of seven methods",
        "Statistics in Medicine 17",
    ),
    Reference(
        "LeCun et al. 1998",
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner",
        "Gradient-based learning applied to document recognition",
        "Proceedings of the IEEE 86(11)",
    ),
    Reference(
        "Larochelle et al. 2007",
        "H. Larochelle, D. Erhan, A. Courville, J. Bergstra, Y. Bengio",
        "An empirical evaluation of deep architectures on problems with many factors of variation",
        "ICML 2007",
    ),
    Reference(
        "Krizhevsky 2009",
        "A. Krizhevsky",
        "Learning multiple layers of features from tiny images",
        "Technical report, University of Toronto",
    ),
    Reference(
        "Machado et al. 2009",
        "G. M. Machado, M. M. Oliveira, L. A. F. Fernandes",
        "A physiologically-based model for simulation of color vision deficiency",
        "IEEE Transactions on Visualization and Computer Graphics 15(6)",
    ),
    Reference(
        "Krizhevsky et al. 2012",
        "A. Krizhevsky, I. Sutskever, G. E. Hinton",
        "ImageNet classification with deep convolutional neural networks",
        "NIPS 2012",
    ),
    Reference(
        "Howard 2013",
        "A. G. Howard",
        "Some improvements on deep convolutional neural network based image classification",
        "ICLR 2014",
        "1312.5402",
    ),
    Reference(
        "Krizhevsky 2014",
        "A. Krizhevsky",
        "One weird trick for parallelizing convolutional neural networks",
        "preprint",
        "1404.5997",
    ),
    Reference(
        "Lin et al. 2014", "M. Lin, Q. Chen, S. Yan", "Network in network", "ICLR 2014", "1312.4400"
    ),
    Reference(
        "He et al. 2015",
        "K. He, X. Zhang, S. Ren, J. Sun",
        "Delving deep into rectifiers: surpassing human-level performance on ImageNet "
        "classification",
        "ICCV 2015",
        "1502.01852",
    ),
    Reference(
        "Ioffe and Szegedy 2015",
        "S. Ioffe, C. Szegedy",
        "Batch normalization: accelerating deep network training by reducing internal covariate "
        "shift",
        "ICML 2015",
        "1502.03167",
    ),
    Reference(
        "Kingma and Ba 2015",
        "D. P. Kingma, J. Ba",
        "Adam: a method for stochastic optimization",
        "ICLR 2015",
        "1412.6980",
    ),
    Reference(
        "Russakovsky et al. 2015",
        "O. Russakovsky, J. Deng, H. Su and others",
        "ImageNet large scale visual recognition challenge",
        "International Journal of Computer Vision 115",
        "1409.0575",
    ),
    Reference(
        "Simonyan and Zisserman 2015",
        "K. Simonyan, A. Zisserman",
        "Very deep convolutional networks for large-scale image recognition",
        "ICLR 2015",
        "1409.1556",
    ),
    Reference(
        "Szegedy et al. 2015",
        "C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, "
        "A. Rabinovich",
        "Going deeper with convolutions",
        "CVPR 2015",
        "1409.4842",
    ),
    Reference(
        "He et al. 2016a",
        "K. He, X. Zhang, S. Ren, J. Sun",
        "Deep residual learning for image recognition",
        "CVPR 2016",
        "1512.03385",
    ),
    Reference(
        "He et al. 2016b",
        "K. He, X. Zhang, S. Ren, J. Sun",
        "Identity mappings in deep residual networks",
        "ECCV 2016",
        "1603.05027",
    ),
    Reference(
        "Lavin and Gray 2016",
        "A. Lavin, S. Gray",
        "Fast algorithms for convolutional neural networks",
        "CVPR 2016",
        "1509.09308",
    ),
    Reference(
        "Veit et al. 2016",
        "A. Veit, M. Wilber, S. Belongie",
        "Residual networks behave like ensembles of relatively shallow networks",
        "NIPS 2016",
        "1605.06431",
    ),
    Reference(
        "Goyal et al. 2017",
        "P. Goyal, P. Dollár, R. Girshick and others",
        "Accurate, large minibatch SGD: training ImageNet in 1 hour",
        "arXiv 2017",
        "1706.02677",
    ),
    Reference(
        "Guo et al. 2017",
        "C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger",
        "On calibration of modern neural networks",
        "ICML 2017",
        "1706.04599",
    ),
    Reference(
        "Huang et al. 2017",
        "G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger",
        "Densely connected convolutional networks",
        "CVPR 2017",
        "1608.06993",
    ),
    Reference(
        "Xiao et al. 2017",
        "H. Xiao, K. Rasul, R. Vollgraf",
        "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
        "preprint",
        "1708.07747",
    ),
)


def cited(text: str) -> tuple[Reference, ...]:
    """The references whose key appears in a text, in the order of REFERENCES."""
    return tuple(reference for reference in REFERENCES if reference.key in text)

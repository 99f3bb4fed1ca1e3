"""What the papers print for the runs of the studies: by study, then by a run's label, in percent.

The one place for published values; each carries its source. Data only.
"""

# He et al. 2015, Table 6: test error on CIFAR-10, final, by number of layers.
RESIDUAL_CIFAR10 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97}
# He et al. 2015 print no numbers for the plain nets; read off Fig. 6 (left) by others.
PLAIN_CIFAR10_READ = {20: 9.5, 32: 10.0, 44: 12.0, 56: 13.5}
DEGRADATION = {
    **{f"ResNet-{depth}": f"{error}" for depth, error in RESIDUAL_CIFAR10.items()},
    **{f"plain-{depth}": f"≈ {error:g}" for depth, error in PLAIN_CIFAR10_READ.items()},
}

# He et al. 2015, Tables 2 and 3: ImageNet validation, ten crops, top-1 error.
SHORTCUTS = {
    "none (plain)": "28.54",
    "A: zeros appended": "25.03",
    "B: projected where needed": "24.52",
    "C: projected": "24.19",
}

# Krizhevsky et al. 2012: sections 3.3 and 3.4, ImageNet top-1 and CIFAR-10; section 7, ImageNet.
ALEXNET_PARTS = {
    "all parts": "11% on CIFAR-10",
    "without LRN": "1.4 points, 13% on CIFAR-10",
    "pooling 2×2, no overlap": "0.4 points",
    "without conv4": "about 2 points",
}

# LeCun et al. 1998, section III.B and Fig. 6: MNIST test error by size of the training set; the
# 1.7 at 15,000 is recalled from the plot, not printed.
LENET_FINAL = 0.95
LENET_SIZES = {15_000: 1.7, 60_000: 0.95}

# Szegedy et al. 2014, section 5: weight of the side heads' losses.
SIDE_WEIGHT = 0.3

# Simonyan and Zisserman 2015, Table 3, S = Q = 256: ImageNet validation, top-1 error. The 5×5 twin
# of B is in no table (section 4.1: 7% worse in top-1, on the centre crop).
VGG = {"A": 29.6, "B": 28.7, "C": 28.1, "D": 27.0, "E": 27.3}

# Lin et al. 2014, Table 5 and text: CIFAR-10 test error. All but 10.41 recalled from the paper.
NIN_HEADS = {
    "average pooling": 14.51,
    "average pooling, dropout": 10.41,
    "dense": 11.59,
    "dense, dropout": 10.88,
}

# He et al. 2016, Table 2: ResNet-110 on CIFAR-10, test error, median of five.
PREACTIVATION = {
    "original": 6.61,
    "BN after addition": 8.17,
    "ReLU before addition": 7.84,
    "ReLU-only pre-activation": 6.71,
    "full pre-activation": 6.37,
}

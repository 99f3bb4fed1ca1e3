"""The claims, in the lecture's order: `CLAIMS`, under the sections of docs/lecture.md."""

from functools import partial

from lecture import counts
from lecture.claim import Claim, Counted, Held, Studied

LENET, ALEXNET, VGG = "LeNet-5", "AlexNet", "VGG"
RESNETS, WHY = "ResNets", "Why ResNets work"
ONE, MOTIVATION, INCEPTION = "1×1 convolutions", "Why Inception", "The Inception network"
SIDE, TRANSFER = "Side branches", "Open implementations and transfer"
AUGMENTATION, STATE = "Augmentation", "The state of computer vision"
SECTIONS = (
    LENET,
    ALEXNET,
    VGG,
    RESNETS,
    WHY,
    ONE,
    MOTIVATION,
    INCEPTION,
    SIDE,
    TRANSFER,
    AUGMENTATION,
    STATE,
)

_DIFF = "python describe.py --diff"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        LENET,
        "LeNet-5 has about 60,000 parameters",
        Counted("python describe.py lenet5_1998", counts.lenet_parameters),
    ),
    Claim(
        LENET,
        "Two valid 5×5 convolutions and two pools take 32×32×1 to 5×5×16",
        Counted("python describe.py lenet5_modern", counts.lenet_shapes),
    ),
    Claim(
        LENET,
        "Deeper layers have smaller sides and more channels, in LeNet-5, VGG and ResNets",
        Counted(
            "python describe.py vgg_D",
            partial(counts.shrinking_and_growing, "lenet5_modern", "vgg_D", "resnet34_A"),
        ),
    ),
    Claim(
        LENET,
        "In its modern form it reads digits: at least 98% are right",
        Studied("lenet5_modern", "at least 98%"),
    ),
    Claim(
        LENET,
        "C3's maps saw only some of S2's; that costs little",
        Studied("lenet_steps", "the connections of Table I"),
    ),
    Claim(
        LENET,
        "Max pooling, today's choice, has less error than average pooling",
        Studied("lenet_steps", "less test error with “max pooling”"),
    ),
    Claim(
        LENET,
        "ReLU, today's choice, has less error than the scaled tanh",
        Studied("lenet_steps", "less test error with ReLU"),
    ),
    Claim(
        LENET,
        "Softmax, today's output, has less error than radial-basis units",
        Studied("lenet_steps", "less test error with softmax"),
    ),
    Claim(
        LENET,
        "The modern form has less error than that of 1998",
        Studied("lenet_steps", "all changes together"),
    ),
    Claim(
        ALEXNET,
        "AlexNet has about 60 million parameters: far more than LeNet-5",
        Counted("python describe.py alexnet_2012", counts.alexnet_parameters),
    ),
    Claim(
        ALEXNET,
        "Its images have 227 pixels; with the 224 of the paper the sizes do not fit",
        Counted("python describe.py alexnet_2012", counts.alexnet_input),
    ),
    Claim(
        ALEXNET,
        "Most parameters are in the dense layers, most of the work is in the convolutions",
        Counted("python describe.py alexnet_2012", counts.dense_share),
    ),
    Claim(
        ALEXNET,
        "Its channels grow from convolution to convolution, too",
        Counted(
            "python describe.py alexnet_2012",
            partial(counts.shrinking_and_growing, "alexnet_2012"),
        ),
    ),
    Claim(
        ALEXNET,
        "ReLU trains faster than tanh",
        Studied("relu_vs_tanh", "ReLU at its best rate reaches 5%"),
    ),
    Claim(
        ALEXNET,
        "Two GPUs, each with half of the maps, have less error than the net of one GPU",
        Studied("two_gpus", "less test error with “two towers”"),
    ),
    Claim(
        ALEXNET,
        "Response normalisation lowers the error: the paper says so, the lecture doubts it",
        Studied("alexnet_parts", "more test error “without LRN”"),
    ),
    Claim(
        VGG,
        "All layers are alike: 3×3 convolutions with same padding, 2×2 pools of stride 2",
        Counted("python describe.py vgg_D", counts.vgg_layers),
    ),
    Claim(
        VGG,
        "Each pool halves the sides and the next stage doubles the channels",
        Counted("python describe.py vgg_D", counts.vgg_doubling),
    ),
    Claim(
        VGG,
        "VGG-16 has about 138 million parameters",
        Counted("python describe.py vgg_D", counts.vgg_parameters),
    ),
    Claim(
        VGG,
        "Misprint: VGG-16, being simpler, has fewer parameters than AlexNet",
        Counted(f"{_DIFF} alexnet_2012 vgg_D", counts.vgg_smaller_than_alexnet),
    ),
    Claim(
        VGG,
        "Two 3×3 layers see as much as one 5×5, three as much as one 7×7, with fewer weights",
        Counted("python describe.py vgg_D", counts.stacked_3x3),
    ),
    Claim(
        VGG,
        "Depth with small filters helps: 13 layers have less error than 11",
        Studied("vgg_depth", "B has less test error than A"),
    ),
    Claim(
        VGG,
        "VGG-19 does about as well as VGG-16",
        Studied("vgg_depth", "D and E are equal"),
    ),
    Claim(
        RESNETS,
        "In very deep plain nets gradients vanish: plain-110 without batch norm",
        Studied("gradients", "plain-110, no batch norm, at the start"),
    ),
    Claim(
        RESNETS,
        "With batch norm they neither vanish nor explode: plain-56, as the paper has it",
        Studied("gradients", "plain-56, at the start: healthy norms"),
    ),
    Claim(
        RESNETS,
        "In a ResNet the gradient changes less over depth than in its plain twin",
        Studied("gradients", "at the start the gradient changes more over the depth of plain-56"),
    ),
    Claim(
        RESNETS,
        "Plain nets get worse with depth, on the training images already",
        Studied("degradation", "plain-56 has more training error than plain-20"),
    ),
    Claim(
        RESNETS,
        "ResNets do not get worse with depth",
        Studied("degradation", "ResNet-56 trains no worse than ResNet-20"),
    ),
    Claim(
        RESNETS,
        "At the same depth a ResNet has less training error than its plain twin",
        Studied("degradation", "plain-56 has more training error than ResNet-56"),
    ),
    Claim(
        RESNETS,
        "A skip adds nothing that is trained: the twins have the same parameters",
        Counted(f"{_DIFF} plain34 resnet34_A", counts.plain_and_residual),
    ),
    Claim(
        WHY,
        "A block of weights 0 is the identity: inserted, it hurts less than a plain layer",
        Studied("identity", "at once: plain layers inserted"),
    ),
    Claim(
        WHY,
        "Trained on, blocks that were inserted do not hurt",
        Studied("identity", "trained on: ResNet-32 of inserted blocks"),
    ),
    Claim(
        WHY,
        "Inserted plain layers do hurt",
        Studied("identity", "trained on: plain-32 of inserted layers has more training error"),
    ),
    Claim(
        WHY,
        "So a block can be taken out of a ResNet, and a layer not out of a plain net",
        Studied("identity", "deleting one block adds more test error to plain-20"),
    ),
    Claim(
        WHY,
        "Same padding keeps the sizes, so that most skips are plain additions; where the size "
        "changes, a W_s is needed",
        Counted("python describe.py resnet34_B", counts.weighted_skips),
    ),
    Claim(
        WHY,
        "W_s may as well be fixed and fill in zeros: that does better than no skip",
        Studied("shortcuts", "A has less training error than no shortcut"),
    ),
    Claim(
        WHY,
        "A W_s that is trained has less error than zeros",
        Studied("shortcuts", "B has less test error than A"),
    ),
    Claim(
        ONE,
        "A 1×1 convolution is a dense layer at each position",
        Counted("python describe.py lecture_conv1x1", counts.one_by_one_is_dense),
    ),
    Claim(
        ONE,
        "It shrinks the channels and keeps height and width",
        Counted("python describe.py lecture_conv1x1", counts.one_by_one_shrinks),
    ),
    Claim(
        ONE,
        "With its nonlinearity it makes the net better, at equal cost",
        Studied("depth_1x1", "1×1 layers give less test error than width"),
    ),
    Claim(
        MOTIVATION,
        "A module does 1×1, 3×3, 5×5 and pooling at once and stacks the outputs",
        Counted("python describe.py googlenet_2014", counts.inception_channels),
    ),
    Claim(
        MOTIVATION,
        "A bottleneck makes 12.4 of 120 million multiplications",
        Counted(
            f"{_DIFF} lecture_conv5x5 lecture_conv5x5_bottleneck",
            counts.bottleneck_multiplications,
        ),
    ),
    Claim(
        MOTIVATION,
        "Misprint: 120 and 12.4 million are its parameters",
        Counted(
            f"{_DIFF} lecture_conv5x5 lecture_conv5x5_bottleneck", counts.bottleneck_parameters
        ),
    ),
    Claim(
        MOTIVATION,
        "Within reason a bottleneck does not hurt",
        Studied("inception_cost", "reductions do not hurt"),
    ),
    Claim(
        INCEPTION,
        "The network is a module again and again, nine times",
        Counted("python describe.py googlenet_2014", counts.googlenet_modules),
    ),
    Claim(
        INCEPTION,
        "It has twelve times fewer parameters than AlexNet",
        Counted(f"{_DIFF} alexnet_2012 googlenet_2014", counts.googlenet_against_alexnet),
    ),
    Claim(
        INCEPTION,
        "More modules make it better, on the training images at least",
        Studied("inception_depth"),
    ),
    Claim(
        SIDE,
        "Side branches act in training only",
        Counted(f"{_DIFF} googlenet_2014 googlenet_2014_with_aux", counts.side_branches_are_free),
    ),
    Claim(
        SIDE,
        "They lower the error",
        Studied("side_branches", "less test error with “both, weight 0.3” than with “no side"),
    ),
    Claim(
        SIDE,
        "They reduce overfitting",
        Studied("side_branches", "the gap between training and test error is smaller"),
    ),
    Claim(
        SIDE,
        "Hidden layers predict well, and the later ones better",
        Studied("side_branches", "aux2, the later head, has less test error than aux1"),
    ),
    Claim(
        TRANSFER,
        "Others' trained weights can be used as they are (Caffe)",
        Held("tests/test_convert_caffe.py::test_outputs_are_those_of_the_definition"),
    ),
    Claim(
        TRANSFER,
        "Others' trained weights can be used as they are (Keras)",
        Held("tests/test_convert_keras.py::test_outputs_are_those_of_the_definition"),
    ),
    Claim(
        TRANSFER,
        "With few labels only a new head is trained, a small part of the net",
        Counted("python describe.py resnet50_v1:num_classes=10", counts.head_share),
    ),
    Claim(
        TRANSFER,
        "A frozen trunk's features can be computed once and kept",
        Held("tests/test_predict.py::test_features_are_the_layers_output"),
    ),
    Claim(
        TRANSFER,
        "With few labels a new head on a trained trunk beats training from scratch",
        Studied("transfer", "10 labels a class: a new head on the trunk has less"),
    ),
    Claim(
        TRANSFER,
        "With more labels, freeze fewer layers: the last ones beat training from scratch",
        Studied("transfer", "30 labels a class: new last layers"),
    ),
    Claim(
        TRANSFER,
        "With many labels, train all layers: that beats the head alone",
        Studied("transfer", "* labels a class: all layers have less test error than the head"),
    ),
    Claim(
        AUGMENTATION,
        "Mirror images lower the error",
        Studied("augmentation", "less test error with “mirror images” than"),
    ),
    Claim(
        AUGMENTATION,
        "Random crops lower the error",
        Studied("augmentation", "less test error with “crops” than"),
    ),
    Claim(
        AUGMENTATION,
        "Shifts of colour lower the error",
        Studied("augmentation", "less test error with “colours” than"),
    ),
    Claim(
        AUGMENTATION,
        "Augmentation reduces overfitting",
        Studied("augmentation", "mirror images and crops reduce overfitting"),
    ),
    Claim(
        STATE,
        "An average of several nets has less error than one",
        Studied("ensembles", "less test error with 7 nets and one view than with 1 net and one"),
    ),
    Claim(
        STATE,
        "So has an average over ten crops",
        Studied("ensembles", "less test error with 1 net and ten crops than"),
    ),
    Claim(
        STATE,
        "Ten crops under the paper's test protocol: less error, at ten times the cost",
        Counted(
            "python evaluate.py --workdir=runs/lenet_fashion --step=best --protocol=all",
            counts.crops,
        ),
    ),
)

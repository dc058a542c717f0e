"""How questions are asked: the skeletons of every kind, see `forms.py`. What begins with ^ is held out from training.
Those of `more_wordings.py`, of which none is held out, are added.

Slots: {x}, {y}: an object, as "the red dog" or "<region:a>". {region}: a region. The others are words.
"""

from __future__ import annotations

from functools import cache

from dynrefer.workbench.scenes.questions.more_wordings import more_forms
from dynrefer.workbench.scenes.questions.records import Kind

_COLOUR = (
    "[What|Which|^In what] colo[u|]r is {x}?",
    "What [is|^would you call] the colo[u|]r of {x}?",
    "[Name|State|Give me|^Report] the colo[u|]r of {x}.",
    "[What|Which] colo[u|]r does {x} have?",
    "Can you [tell me|say|^work out] [what|which] colo[u|]r {x} is?",
    "{x}: [what|which] colo[u|]r is it?",
    "I [want|would like|^need] to know [what|which] colo[u|]r {x} is.",
    "^How would you describe {x} in terms of colo[u|]r?",
    "^If I had to paint {x}, which paint [would|should] I take?",
)
_NAME = (
    "What [is|^can be seen in|do you see in|is shown in] {region}?",
    "What [kind of|type of|^sort of] [object|thing] is {region}?",
    "[Name|Identify|Classify|^Recognise] {region}.",
    "[Which|What] [object|thing|item] is [in|at|inside|^within] {region}?",
    "Can you [tell me|say|^make out] what {region} is?",
    "What [do|would|^might] you call {region}?",
    "[What's|What is] that [in|at] {region}?",
    "I [want|would like] to know what {region} [is|shows].",
    "^{region} is [a picture|an image] of what?",
    "^Give the [name|class] of what I marked as {region}.",
)
_SIZE = (
    "[How large|How big|^Of what size] is {x}?",
    "What [size is|is the size of|^can you say about the size of] {x}?",
    "Is {x} small, medium or large?",
    "Is {x} [large, medium or small|large or small, or medium]?",
    "Tell me how [big|large|^sizeable] {x} is.",
    "Can you say how [big|large|^huge] {x} is?",
    "^Small, medium or large: which [fits|describes] {x}?",
    "^How much of the picture does {x} take up: is it small, medium or large?",
)
_POSITION = (
    "In which part of the [image|picture|^frame] is {x}?",
    "[Whereabouts|At which place] in the [image|picture|^frame] is {x}?",
    "What is the position of {x} in the [image|picture|^frame]?",
    "[Which|What] [part|area|^region] of the [image|picture] [contains|holds|shows] {x}?",
    "Is {x} on the left, on the right or in the middle, at the top or at the [bottom|^foot]?",
    "[Describe|Give|State|^Specify] the position of {x} in the [image|picture].",
    "^To which [corner, side or part|side, corner or part] of the image should I look to see {x}?",
    "^Divide the image into nine parts: which one has {x}?",
)
_DESCRIPTION = (
    "[Describe|Caption|^Characterise] {region}.",
    "[Can|Could|^Would] you describe {region}?",
    "What does {region} look like?",
    "[Give|Write] a [short |brief |^concise |]description of {region}.",
    "[Write|Give me] a caption for {region}.",
    "Describe what [is|you see|^appears] in {region}.",
    "^How would you describe {region} to somebody on the phone?",
    "^A few words about {region}, please.",
)
_SEVERAL = (
    "What are {regions}?",
    "[Name|Identify|Classify|^Recognise] {regions}.",
    "What [is in each of|can be seen in|^appears in each of] {regions}?",
    "[Which|What] [objects|things] are [in|at|^within] {regions}?",
    "Can you [name|identify|^label] {regions}?",
    "[What do {regions} show|Tell me what {regions} are|^Work out what {regions} are].",
    "^One name for each of {regions}, in that order.",
    "^Go through {regions} and give the name of each.",
)
_COUNT = (
    "How many {things} are [there|in the image|in the picture|visible|^on display]?",
    "[Count|Count up|^Tally] the {things}.",
    "What is the number of {things}[ in the image| in the picture|^ on show|]?",
    "How many {things} [can you see|do you see|^can you find|does the image show]?",
    "[Tell me|Can you say|Please say|^Let me know] how many {things} there are.",
    "How many {things}?",
    "[Give|State] the number of {things}.",
    "^If you count {things}, which number do you get?",
    "^The image has this many {things}: how many?",
)
_EXISTENCE = (
    "Is there {thing}[ in the image| in the picture|^ anywhere| here|]?",
    "[Can you|Do you|Could you|^Are you able to] see {thing}?",
    "Does the [image|picture|^scene] [show|contain|have|^feature] {thing}?",
    "Is {thing} [visible|in the image|in the picture|^to be seen]?",
    "Do you [find|notice|^spot] {thing}[ in it| here|]?",
    "I [wonder|want to know|^am curious] if there is {thing}.",
    "Tell me whether there is {thing}[ or not|].",
    "^{thing}: is one there?",
    "^Would I find {thing} in this image?",
)
_WHERE = (
    "Where is {x}?",
    "[Find|Locate|Detect|^Pinpoint] {x}.",
    "[Show me|Point to|Point out|^Mark] {x}.",
    "Where [can I see|do you see|^can one find|can I find] {x}?",
    "Can you [find|locate|show me|^spot] {x}?",
    "[Give me|What is|^Return] the [box|bounding box] of {x}.",
    "^I am looking for {x}: where should I look?",
    "^Draw a box around {x}.",
)
_LISTING = (
    "[List|Name|Find|^Enumerate] all [objects|things|the objects|^items][ in the image| in the picture|].",
    "[What|Which] objects are [there|in the image|in the picture|^present]?",
    "What [can you see|do you see|is there|^is visible] in the [image|picture]?",
    "What is in the [image|picture]?",
    "[Detect|Locate|^Box] [all|the] objects.",
    "[Give me|Make|^Compile] a list of [all|the] objects.",
    "What does the [image|picture|^scene] show?",
    "^Go over the picture from top to bottom: which objects are there?",
    "^Everything that you see, one by one.",
)
_LISTING_SOME = (
    "[List|Name|Find|^Enumerate] [all|the] {things}.",
    "[What|Which] {things} are [there|in the image|in the picture|^present]?",
    "[What|Which] {things} [can you|do you|^could one] see?",
    "[Detect|Locate|^Box] [all|the] {things}.",
    "[Give me|Make|^Compile] a list of [all|the] {things}.",
    "^Of what you see, which are {things}?",
    "^{things} only: what is there?",
)
_EXTREME = (
    "[What|Which object] is the {most}?",
    "[Which|What] [object|thing|^item] is the {most}[ one| of all|]?",
    "[Name|Find|^Pick] the {most} [object|thing].",
    "What is the {most} [object|thing][ in the image| in the picture|^ here]?",
    "[Tell me|Can you say|^Work out] what the {most} [object|thing] is.",
    "^Of all objects, which would you call the {most}?",
    "^Sort the objects: which one is the {most}?",
)
_RELATION = (
    "Where is {x} relative to {y}?",
    "Where is {x}, [seen|looking|^viewed] from {y}?",
    "[What|Which] is the position of {x} [relative to|with respect to|^compared with] {y}?",
    "How [is {x} placed|does {x} lie|^is {x} located] relative to {y}?",
    "On which side of {y} is {x}?",
    "[Describe|Give|^Specify] the position of {x} relative to {y}.",
    "^Take {y} as the centre: in which direction is {x}?",
    "^How do I get from {y} to {x}: in which direction is it?",
)
_RELATION_YES_NO = (
    "Is {x} {relation} {y}?",
    "[Can you say whether|Tell me whether|I wonder if|^Let me know whether] {x} is {relation} {y}.",
    "[Is it true|Is it right|Is it correct|^Is it so] that {x} is {relation} {y}?",
    "Does {x} [lie|appear|^sit] {relation} {y}?",
    "{x} is {relation} {y}, [right|isn't it|correct|^yes]?",
    "^Looking at {y}: is {x} {relation} it?",
    "^Would you say that {x} is {relation} {y}?",
)
_BESIDE = (
    "[What|Which object|Which thing|^Which item] is {relation} {y}?",
    "What [can you see|do you see|is there|^is found] {relation} {y}?",
    "[Name|Find|^Give] the [object|thing] {relation} {y}.",
    "[Tell me|Can you say|^Say] what is {relation} {y}.",
    "The [object|thing] {relation} {y}: what is it?",
    "^Start at {y}: what is {relation} it?",
    "^Somebody put something {relation} {y}; what?",
)
_LARGER = (
    "[Which|What] is {more}, {x} or {y}?",
    "[Which|What] is the {more} one, {x} or {y}?",
    "[Which|What] is the {more} of the two: {x} or {y}?",
    "{x} or {y}: [which|what] is {more}?",
    "Which one is {more}: {x} or {y}?",
    "[Compare|^Look at] {x} and {y}: which is {more}?",
    "Of {x} and {y}, [which|which one|^which of them] is {more}?",
    "^Between {x} and {y}, pick the {more} one.",
    "^I can see {x} and {y}; which of them looks {more}?",
)
_LARGER_YES_NO = (
    "Is {x} {more} than {y}?",
    "[Does|^Would] {x} look {more} than {y}?",
    "[Is it true|Is it right|^Is it so] that {x} is {more} than {y}?",
    "[Can you say whether|Tell me whether|I wonder if|^Let me know whether] {x} is {more} than {y}.",
    "{x} is {more} than {y}, [right|isn't it|correct|^yes]?",
    "^Compared with {y}, is {x} {more}?",
    "^Would you say that {x} is the {more} one, and not {y}?",
)
_SAME_COLOUR = (
    "[Do|^Would] {x} and {y} have the same colo[u|]r?",
    "Are {x} and {y} [|of ]the same colo[u|]r?",
    "Is {x} the same colo[u|]r as {y}?",
    "Is the colo[u|]r of {x} [the same as|^identical with] that of {y}?",
    "[Does|^Would] {x} have the colo[u|]r of {y}?",
    "[Tell me whether|I wonder if|^Let me know whether] {x} and {y} have the same colo[u|]r.",
    "^Compare the colo[u|]rs of {x} and {y}: are they the same?",
    "^{x}, {y}: one colo[u|]r for both?",
)
_SAME_GROUP = (
    "Are {x} and {y} both {things}?",
    "Are both {x} and {y} {things}?",
    "Is it [true|right|^so] that {x} and {y} are both {things}?",
    "[Tell me whether|I wonder if|^Let me know whether] {x} and {y} are both {things}.",
    "{x} and {y}: are both {things}?",
    "^Would you call both {x} and {y} {things}?",
    "^{things}: does the word fit both {x} and {y}?",
)
_SAME_OBJECT = (
    "[Do|^Would] {x} and {y} show the same [object|thing]?",
    "Are {x} and {y} the same [object|thing|^item]?",
    "Is {x} the same [object|thing|^item] as {y}?",
    "Is the same [object|thing] in {x} and {y}?",
    "[Tell me whether|I wonder if|^Let me know whether] {x} and {y} are the same [object|thing].",
    "^I marked {x} and {y}: is that one and the same [object|thing]?",
    "^Does {y} mark what {x} marks?",
)
_SETTING = (
    "What is [in the background|behind everything|^all around]?",
    "[What|Which] is the [background|setting|^surroundings] of the [image|picture]?",
    "[Describe|Name|^Characterise] the [background|setting].",
    "[What|Which] [background|setting] does the [image|picture] have?",
    "Where [was this|is this|is the scene|^does this take place]?",
    "What is {x} [on or in front of|standing on or in front of]?",
    "[Against|^Before] what [background|setting] is {x}?",
    "^Forget the objects: what remains of the [image|picture]?",
    "^What would you see [if nothing stood there|without the objects]?",
)
_UNANSWERABLE = (
    "How old is {x}?",
    "[What does|How much does] {x} cost?",
    "Who [owns|bought|made|^painted] {x}?",
    "How heavy is {x}?",
    "[What is|What's] [inside|hidden behind|^underneath] {x}?",
    "What [happens|will happen|happened] [next|before|^afterwards] to {x}?",
    "When was {x} [made|bought|^found]?",
    "[What is|What's] the [first name|birthday|telephone number|^nickname] of the owner of {x}?",
    "What does {x} [smell|taste|sound] like?",
    "[What|Which] [day|month|year|^hour] is it in the image?",
    "How warm is it in the [image|picture]?",
    "Which country [was this|is this|^does this picture come] from?",
    "^Why is {x} here?",
    "^For how long has {x} been here?",
    "^Does the owner of {x} like it?",
)

_SKELETONS: dict[Kind, tuple[str, ...]] = {
    Kind.NAME: _NAME,
    Kind.COLOUR: _COLOUR,
    Kind.SIZE: _SIZE,
    Kind.POSITION: _POSITION,
    Kind.DESCRIPTION: _DESCRIPTION,
    Kind.SEVERAL: _SEVERAL,
    Kind.COUNT: _COUNT,
    Kind.EXISTENCE: _EXISTENCE,
    Kind.WHERE: _WHERE,
    Kind.LISTING: _LISTING,
    Kind.LISTING_SOME: _LISTING_SOME,
    Kind.EXTREME: _EXTREME,
    Kind.RELATION: _RELATION,
    Kind.RELATION_YES_NO: _RELATION_YES_NO,
    Kind.BESIDE: _BESIDE,
    Kind.LARGER: _LARGER,
    Kind.LARGER_YES_NO: _LARGER_YES_NO,
    Kind.SAME_COLOUR: _SAME_COLOUR,
    Kind.SAME_GROUP: _SAME_GROUP,
    Kind.SAME_OBJECT: _SAME_OBJECT,
    Kind.SETTING: _SETTING,
    Kind.UNANSWERABLE: _UNANSWERABLE,
}
# A question that goes on from an answer about an object: what it asks for -> how. {more}, {y}, {relation}: as above.
_FOLLOW_UPS: dict[Kind, tuple[str, ...]] = {
    Kind.COLOUR: (
        "[And|^Then] its colo[u|]r?",
        "[And what|What] colo[u|]r is it?",
        "What is its colo[u|]r?",
        "[And which|Which] colo[u|]r does it have?",
        "^And how is it colo[u|]red?",
    ),
    Kind.NAME: (
        "[And what|What] is it?",
        "What [kind of |^sort of |][object|thing] is it?",
        "[Can you name it|Name it|^Identify it].",
        "^So what would you call it?",
    ),
    Kind.WHERE: (
        "[And where|Where] is it?",
        "[Show it to me|Find it|Point to it|^Mark it].",
        "Where [can I see|do you see|^would I find] it?",
        "^I want to look at it: where?",
    ),
    Kind.SIZE: (
        "[And how|How] [large|big] is it?",
        "[And its|What is its|^Then its] size?",
        "^Small, medium or large?",
    ),
    Kind.POSITION: (
        "In which part of the [image|picture|^frame] is it?",
        "[And its|What is its] position in the [image|picture|^frame]?",
        "^Which of the nine parts of the image has it?",
    ),
    Kind.LARGER_YES_NO: (
        "Is it {more} than {y}?",
        "[And is|Is] it {more} than {y}?",
        "Does it look {more} than {y}[ does|^ to you|]?",
        "^Compared with {y}, is it {more}?",
    ),
    Kind.RELATION: (
        "Where is it relative to {y}?",
        "[And where|Where] is it, seen from {y}?",
        "[And its|What is its|^Then its] position relative to {y}?",
        "^In which direction is it from {y}?",
    ),
    Kind.BESIDE: (
        "[And what|What] is {relation} it?",
        "What [can you see|do you see|^is found] {relation} it?",
        "^Start there: what is {relation} it?",
    ),
}


@cache
def skeletons() -> dict[Kind, tuple[str, ...]]:
    """How the questions of every kind are asked."""
    return {kind: (*lines, *more_forms("skeletons")[kind]) for kind, lines in _SKELETONS.items()}


@cache
def follow_ups() -> dict[Kind, tuple[str, ...]]:
    """How questions go on from an answer about an object, by what they ask for."""
    return {kind: (*lines, *more_forms("follow_ups")[kind]) for kind, lines in _FOLLOW_UPS.items()}

//! The words of the embedded sample. All of its headlines are made up for this project; names of
//! real companies and people stand for kinds of news, not for events.

/// A category of the sample.
#[derive(Clone, Copy)]
pub enum Category {
    Business,
    Technology,
    Entertainment,
    Medicine,
}

impl Category {
    /// The news archive's letter for it.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Business => "b",
            Self::Technology => "t",
            Self::Entertainment => "e",
            Self::Medicine => "m",
        }
    }
}

/// The words that a category's headlines are made of.
pub struct Lexicon {
    /// Who or what the news is about.
    pub subjects: &'static [&'static str],
    /// What the subject does.
    pub verbs: &'static [&'static str],
    /// What the verb acts on.
    pub objects: &'static [&'static str],
    /// When, where or why.
    pub tails: &'static [&'static str],
}

/// The lexicon of a category.
pub const fn lexicon(category: Category) -> &'static Lexicon {
    match category {
        Category::Business => &BUSINESS,
        Category::Technology => &TECHNOLOGY,
        Category::Entertainment => &ENTERTAINMENT,
        Category::Medicine => &MEDICINE,
    }
}

#[rustfmt::skip]
const BUSINESS: Lexicon = Lexicon {
    subjects: &[
        "Fed", "ECB's Draghi", "Bank of Japan", "Wall Street", "Euro", "Gold", "Brent crude",
        "China's yuan", "Dollar", "Treasury yields", "L'Oréal", "Nestlé", "Barclays", "Citigroup",
        "JPMorgan", "Alstom", "General Electric", "GM", "Ford", "Tesla", "BNP Paribas",
        "Crédit Agricole", "Air France-KLM", "Alibaba", "Argentina", "Ukraine gas group",
        "US housing starts", "German exports", "Retail sales", "Jobless claims", "Copper",
        "Italy bond auction", "UK inflation", "Australian central bank", "Hedge funds", "Dow",
        "Nikkei", "FTSE", "S&P 500",
    ],
    verbs: &[
        "raises", "cuts", "misses", "beats", "posts", "lifts", "trims", "steadies after",
        "slips on", "climbs on", "edges up before", "falls on", "rallies on", "weighs", "sells",
        "refinances", "writes down", "forecasts", "warns on", "settles",
    ],
    objects: &[
        "quarterly profit", "rate decision", "growth outlook", "bond purchases", "€2 billion debt",
        "share buyback", "dividend", "pension deficit", "job cuts", "trade surplus",
        "inflation data", "a $13 bln offer", "asset sale", "revenue estimates", "mortgage lending",
        "factory orders", "oil stocks", "stress tests", "tax inversion", "sanctions risk",
        "consumer confidence", "manufacturing PMI",
    ],
    tails: &[
        "as investors wait for Yellen", "ahead of payrolls", "in thin trade", "on Ukraine tension",
        "amid deflation fears", "as euro zone recovers", "for third quarter",
        "as traders eye stimulus", "after earnings", "on weak China data", "as yields fall",
        "before ECB meeting", "at month-end", "on merger talk",
    ],
};

#[rustfmt::skip]
const TECHNOLOGY: Lexicon = Lexicon {
    subjects: &[
        "Apple", "Google", "Samsung Galaxy S5", "Microsoft", "Facebook", "Nokia", "Twitter",
        "BlackBerry", "Amazon", "HTC One", "Sony PlayStation", "Nintendo", "Xbox One",
        "NASA probe", "SpaceX rocket", "Oculus Rift", "Heartbleed bug", "Android app", "iPhone 6",
        "iOS 8", "Net neutrality", "FCC", "Tesla", "Comcast", "Netflix", "Hackers", "Pokémon game",
        "Hubble telescope", "Drone maker", "Yahoo", "WhatsApp", "Wearable maker", "Chromebook",
        "Physicists",
    ],
    verbs: &[
        "unveils", "launches", "patches", "leaks", "tests", "rolls out", "brings", "spots",
        "streams", "updates", "teases", "ships", "blocks", "encrypts", "prices", "adds", "drops",
        "cracks", "upgrades", "rumoured to show",
    ],
    objects: &[
        "bigger screen", "new smartwatch", "security flaw", "cloud storage", "voice search",
        "fingerprint scanner", "maps app", "virtual reality headset", "source code", "4K video",
        "broadband rules", "self-driving car", "browser update", "user passwords",
        "moon eclipse photos", "Mars rover images", "battery life", "wireless charging",
        "open beta", "mobile payments", "tablet range", "fast lanes",
    ],
    tails: &[
        "at developer conference", "in latest beta", "for Android and iOS",
        "ahead of September launch", "after data breach", "on Windows 8.1", "in new teardown",
        "for gamers", "with faster chip", "at E3", "before release date", "over Wi-Fi",
        "says leaked memo", "from orbit",
    ],
};

#[rustfmt::skip]
const ENTERTAINMENT: Lexicon = Lexicon {
    subjects: &[
        "Beyoncé", "Justin Bieber", "Kim Kardashian", "Kanye West", "Miley Cyrus",
        "Angelina Jolie", "Game of Thrones", "\"Frozen\"", "Captain America", "Lindsay Lohan",
        "Johnny Depp", "Gwyneth Paltrow", "Godzilla", "Spider-Man sequel", "Taylor Swift",
        "Rihanna", "Jay Z", "Zac Efron", "\"Mad Men\"", "Star Wars", "Peaches Geldof",
        "Penélope Cruz", "Michael Jackson album", "Eurovision winner", "Cannes jury",
        "Robin Thicke", "One Direction", "Selena Gomez", "\"X-Men\" director", "The Voice",
        "Shia LaBeouf", "George Clooney", "Coldplay", "Late Show host",
    ],
    verbs: &[
        "stuns in", "dates", "splits from", "joins cast of", "premieres", "tops", "slams",
        "teases", "marries", "sings", "apologises for", "recalls", "opens up about", "steals",
        "mourns", "reveals", "wins", "cancels", "shares", "defends",
    ],
    objects: &[
        "red carpet gown", "box office", "new single", "wedding photos", "season finale",
        "baby bump", "Met Gala look", "world tour", "Oscar speech", "love triangle",
        "directing debut", "trailer", "reality show", "duet", "topless selfie",
        "comic book villain", "Billboard award", "ex-boyfriend", "custody fight", "cameo",
        "tribute concert", "Broadway role",
    ],
    tails: &[
        "at Coachella", "in Vogue shoot", "on Saturday Night Live", "at Cannes festival",
        "– see the pictures", "with fans in tears", "after rehab", "on Instagram", "in London",
        "for charity gala", "ahead of album", "says stylist", "at MTV awards", "in new video",
    ],
};

#[rustfmt::skip]
const MEDICINE: Lexicon = Lexicon {
    subjects: &[
        "Ebola outbreak", "MERS virus", "West Nile virus", "CDC", "WHO", "FDA panel",
        "Alzheimer's", "Autism risk", "Breast cancer drug", "E-cigarettes", "Obesity",
        "Measles cases", "Diabetes", "Statins", "Gut bacteria", "Naïve stem cells", "Teen smoking",
        "Chikungunya", "Hepatitis C pill", "Sleep loss", "Skin cancer", "Blood test",
        "Heart patients", "Antibiotics", "Marijuana use", "Pregnant women", "Flu vaccine", "Polio",
    ],
    verbs: &[
        "linked to", "raises", "lowers", "spreads in", "slows", "doubles", "kills",
        "helps prevent", "may predict", "tied to", "found in", "worsens", "eases", "approved for",
        "fails to stop", "cuts", "triggers", "detected in",
    ],
    objects: &[
        "stroke risk", "memory loss", "Liberia hospitals", "childhood obesity", "early death",
        "blood pressure", "infection rates", "brain cells", "mosquito bites", "birth defects",
        "insulin levels", "cancer screening", "vaccination rates", "liver damage", "sugar intake",
        "camel herds", "organ transplants", "lung disease", "Medicare patients", "hip surgery",
    ],
    tails: &[
        "in mice", "new study finds", "researchers say", "in West Africa", "in Saudi Arabia",
        "among teens", "in early trial", "doctors warn", "in large trial", "health officials say",
        "by 20 percent", "in older adults", "scientists report",
    ],
};

/// What headlines of every category are made of, too: it makes them hard to tell apart.
#[rustfmt::skip]
pub const COMMON: Lexicon = Lexicon {
    subjects: &[
        "Report", "Experts", "UK", "New York", "Obama", "California", "Police", "Study", "Court",
        "China", "Company", "Family", "Poll", "Judge", "Texas", "Critics", "Students", "Japan",
        "Lawmakers", "Founder", "Chief", "Russia", "Amazon", "Disney", "Sony", "Apple", "Google",
        "Walmart", "McDonald's", "CVS", "Pfizer", "Johnson", "HBO",
    ],
    verbs: &[
        "says", "backs", "wants", "sues over", "faces", "drops", "delays", "plans", "ends", "bans",
        "hits", "gets", "rejects", "starts", "shows", "seeks", "pulls", "finds", "loses",
        "returns to",
    ],
    objects: &[
        "deal", "record", "new rules", "lawsuit", "plan", "big change", "first look", "ban",
        "surprise move", "recall", "settlement", "dispute", "top spot", "campaign", "reports",
        "review", "warning", "rival", "video", "fine", "price rise", "launch", "comeback",
        "future",
    ],
    tails: &[
        "this week", "after all", "in 2014", "again", "for first time", "today", "over safety",
        "in Europe", "next year", "amid criticism", "despite doubts", "on Monday", "at last",
        "worldwide", "for now", "in court", "on Tuesday", "as summer nears",
    ],
};

/// The patterns of headlines: `s`ubject, `v`erb, `o`bject, `t`ail; all else is literal.
#[rustfmt::skip]
pub const SHAPES: &[&str] = &[
    "s v o t", "s v o", "s v o t", "s: o t", "o: s v", "s v o, s t", "\"s v o\" t", "Why s v o",
    "s's o t", "s v o - o t", "t, s v o", "s o: what we know t",
];

/// Prefixes of a later headline about the same story.
#[rustfmt::skip]
pub const UPDATES: &[&str] = &[
    "UPDATE 1-", "UPDATE 2-", "WRAPUP 3-", "RPT-", "CORRECTED-", "Live: ", "Watch: ",
];

/// Publishers that the exercise leaves out.
#[rustfmt::skip]
pub const OTHERS: &[&str] = &[
    "Los Angeles Times", "Livemint", "NASDAQ", "Reuters UK", "Daily Mail Online",
    "Écho Républicain", "MarketWatch", "The Guardian \\(blog\\)",
];
